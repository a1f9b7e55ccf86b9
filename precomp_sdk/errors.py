"""Every exception this package raises on purpose.

Each one derives from `PrecompError` and from the builtin a caller would expect, and its message says where it happened,
what was expected, what came instead and what to do about it.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BitstreamError",
    "CalibrationError",
    "CheckpointError",
    "CodecError",
    "ConfigError",
    "ConformanceError",
    "ContractError",
    "CurveError",
    "DatasetError",
    "DuplicateNameError",
    "ExportError",
    "ImageError",
    "MissingDependencyError",
    "NonFiniteError",
    "NotFittedError",
    "OptionError",
    "PluginError",
    "PrecompError",
    "QualityError",
    "TargetError",
    "UnknownNameError",
    "nearest",
]


class PrecompError(Exception):
    """Root of all errors of precomp_sdk.

    Args:
        where: the function, file, key or step that noticed it.
        expected: what would have been right.
        got: what came instead.
        remedy: what the user can do.
    """

    def __init__(self, *, where: str, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"{where}: expected {expected}; got {got}. {remedy}")
        self.where = where
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:  # KeyError's own __str__ would put the message in quotation marks
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not pickle by default (worker processes)
        return _rebuild, (type(self), self.where, self.expected, self.got, self.remedy)


def _rebuild(kind: type[PrecompError], where: str, expected: str, got: str, remedy: str) -> PrecompError:
    return kind(where=where, expected=expected, got=got, remedy=remedy)


class ImageError(PrecompError, ValueError):
    """An image or a batch has the wrong shape, dtype or range."""


class QualityError(PrecompError, ValueError):
    """A quality is off its codec's scale, or not a number."""


class BitstreamError(PrecompError, ValueError):
    """A payload is not a bitstream of this codec: rubbish, truncated, or a feature that is not decoded."""


class CodecError(PrecompError, RuntimeError):
    """A codec failed to encode an image it should have encoded."""


class ContractError(PrecompError, TypeError):
    """A plugin's method returned something else than its contract promises."""


class OptionError(PrecompError, TypeError):
    """An option is unknown, or has a value out of its range."""


class PluginError(PrecompError, ImportError):
    """A plugin could not be imported, or offers something that is not of its contract."""


class DuplicateNameError(PrecompError, ValueError):
    """Two plugins offer the same name."""


class UnknownNameError(PrecompError, KeyError):
    """No plugin offers this name."""


class MissingDependencyError(PrecompError, ImportError):
    """An optional package is needed and not installed."""


class DatasetError(PrecompError, ValueError):
    """A folder, an annotation or an image of a data set cannot be used."""


class TargetError(PrecompError, TypeError):
    """The targets of a data set do not fit the task."""


class ConfigError(PrecompError, ValueError):
    """An experiment file has a wrong key, type or value."""


class CheckpointError(PrecompError, ValueError):
    """A checkpoint or a weights file does not belong to what it is loaded into."""


class ExportError(PrecompError, RuntimeError):
    """A network cannot be written in another format."""


class NonFiniteError(PrecompError, ArithmeticError):
    """A loss term became NaN or infinite."""


class NotFittedError(PrecompError, RuntimeError):
    """A proxy or a task model is used before it was fitted."""


class CalibrationError(PrecompError, ValueError):
    """``lambda`` cannot be read off the anchor's curve."""


class CurveError(PrecompError, ValueError):
    """A rate-accuracy curve cannot be compared."""


class ConformanceError(PrecompError, AssertionError):
    """A component breaks promises of its contract; the message lists every one."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known names closest to ``name``, or all of them where none is close.

    Example:
        >>> nearest("jpg", ["jpeg", "bpg"])
        "Did you mean 'jpeg' or 'bpg'?"
        >>> nearest("zzz", ["jpeg", "bpg"])
        "Known: 'bpg', 'jpeg'."
        >>> nearest("zzz", [])
        'Nothing is known here.'
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(item) for item in close)}?"
    return f"Known: {', '.join(repr(item) for item in known)}." if known else "Nothing is known here."
