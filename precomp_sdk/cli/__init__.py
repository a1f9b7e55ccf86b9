"""The command line. The only room that prints or exits; everything it does is a call of `precomp_sdk.run`.

What takes long to import is imported by the command that needs it.
"""

from precomp_sdk.allocator import keep_freed_memory
from precomp_sdk.cli import compression, estimates, experiments, init, plugins, proxies, reports  # noqa: F401  # they add their commands
from precomp_sdk.cli._shared import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    app()
