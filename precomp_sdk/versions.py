"""What a result depends on beside its settings."""

import platform
from importlib.metadata import PackageNotFoundError, version

from precomp_sdk import __version__

__all__ = ["environment_versions"]

_PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "pillow")


def environment_versions() -> dict[str, str]:
    """Return the versions of Python, the platform, this package and those that it computes with, by name."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "precomp-sdk": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout on the path, not installed
            versions[package] = "unknown"
    return versions
