"""Scripts of benchmarks/ as modules."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["benchmark"]


def benchmark(name: str) -> Any:
    """Import a script, which may import others of its folder."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.append(folder)  # behind all others: a script may bear the name of a module of Python's
    try:
        return import_module(name)
    finally:
        sys.path.remove(folder)
