"""Opens torchvision's sets, and wraps what they raise."""

import os
from collections.abc import Callable
from typing import Any

from precomp_sdk import DatasetError

__all__ = ["open_published"]


def open_published(
    published: Callable[..., Any], name: str, root: str | os.PathLike[str], *, download: bool, **options: Any
) -> Any:
    """Open a set in ``root`` by torchvision's own class, and fetch it first on request.

    Raises:
        DatasetError: the set is not there, is damaged, or could not be downloaded.
    """
    try:
        return published(str(root), download=download, **options)
    except Exception as error:  # torchvision lets through what its downloads, archives and parsers raise
        raise DatasetError(
            where=f"data set {name!r} in {root}",
            expected="a set that torchvision can download" if download else "a set that was downloaded before",
            got=str(error) or type(error).__name__,
            remedy="Check the network and the free space, or bring the folder from another machine."
            if download
            else "Set the option download to true once, with a network, or give the root of an earlier download.",
        ) from error
