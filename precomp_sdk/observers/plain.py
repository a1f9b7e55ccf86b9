"""Records as plain values."""

import dataclasses
import math
from collections.abc import Mapping

__all__ = ["plain"]


def plain(value: object) -> object:
    """Return records, mappings and sequences as what JSON knows; numbers that JSON lacks become ``"nan"``, ``"inf"``.

    Example:
        >>> plain({3.0: (1, float("inf"))})
        {'3.0': [1, 'inf']}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)  # a path, and whatever else a stranger's settings hold
