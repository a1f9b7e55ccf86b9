"""Every exception this package raises on purpose.

Each one derives from `PrecompError` and from the builtin a caller would expect, and its message says where it happened,
what was expected, what came instead and what to do about it.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import ClassVar, Self
from unicodedata import category

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
    "ResourceError",
    "StorageError",
    "TargetError",
    "UnknownNameError",
    "file_trouble",
    "naming",
    "nearest",
    "printable",
    "reason_of",
]

_VALUE_CHARACTERS = 80  # of a wrong value that a message shows


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with its control characters escaped: names and messages of strangers only ever show themselves.

    Args:
        text: anything.
        lines: keep line breaks.

    Example:
        >>> printable("a\x1b[2Jb\nc")
        'a\\x1b[2Jb\\nc'
    """
    return "".join(
        sign
        if (lines and sign == "\n") or (category(sign)[0] != "C" and category(sign) not in ("Zl", "Zp"))
        else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )


class PrecompError(Exception):
    """Root of all errors of precomp_sdk.

    The message is one line, whatever names and library's words it quotes: see `printable`. The attributes keep them.

    Args:
        where: the function, file, key or step that noticed it.
        expected: what would have been right.
        got: what came instead.
        remedy: what the user can do.
    """

    _keeps_lines: ClassVar[bool] = False

    def __init__(self, *, where: str, expected: str, got: str, remedy: str) -> None:
        message = f"{where}: expected {expected}; got {got}. {remedy}"
        super().__init__(printable(message, lines=self._keeps_lines))
        self.where = where
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:  # KeyError's own __str__ would put the message in quotation marks
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not pickle by default (worker processes)
        return _rebuild, (type(self), self.where, self.expected, self.got, self.remedy)

    def within(self, where: str) -> Self:
        """Return the same error with a place put before its own, such as the sample that it arose from."""
        return type(self)(where=f"{where}: {self.where}", expected=self.expected, got=self.got, remedy=self.remedy)


@contextmanager
def naming(where: str, *, unless: str | None = None) -> Iterator[None]:
    """Put a place before the one that an error of ours names, and note it on any other error.

    Args:
        where: the place, such as a sample.
        unless: leave errors alone whose place has this in it already.

    Example:
        >>> with naming("sample 'a.png'"):
        ...     raise TargetError(where="label", expected="0 or 1", got="7", remedy="Mend it.")
        Traceback (most recent call last):
            ...
        precomp_sdk.errors.TargetError: sample 'a.png': label: expected 0 or 1; got 7. Mend it.
    """
    try:
        yield
    except PrecompError as error:
        if unless is not None and unless in error.where:
            raise
        raise error.within(where) from error
    except Exception as error:
        error.add_note(f"precomp_sdk: {where}")
        raise


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
    """An option is unknown, or has a value out of its range.

    Example:
        >>> print(OptionError.choice("task 'classifier'", "loss", ["expected-error", "cross-entropy"], "cross"))
        task 'classifier', option 'loss': expected 'expected-error' or 'cross-entropy'; got 'cross'. Did you mean \
'cross-entropy'?
        >>> print(OptionError.number("TrainSettings", "steps", "a whole number of 1 or more", 0))
        TrainSettings, option 'steps': expected a whole number of 1 or more; got 0. Set it to a whole number of 1 or \
more, or leave it out for its default.
        >>> print(OptionError.number("TrainSettings", "steps", "a whole number of 1 or more", "10"))
        TrainSettings, option 'steps': expected a whole number of 1 or more; got '10', which is text. Write it \
without quotes.
    """

    @classmethod
    def choice(cls, where: str, option: str, choices: Iterable[object], got: object) -> Self:
        """Return the error for a value that is none of an option's choices; the remedy names the nearest of them.

        Args:
            where: what has the option.
            option: its name.
            choices: every value that is right, one or more; numbers and booleans too.
            got: what came instead.
        """
        choices = list(choices)
        *others, last = map(repr, choices)
        expected = f"{', '.join(others)} or {last}" if others else last
        remedy = _nearest_choice(got, choices)
        return cls(where=_option(where, option), expected=expected, got=_value(got), remedy=remedy)

    @classmethod
    def number(cls, where: str, option: str, expected: str, got: object) -> Self:
        """Return the error for a number that is out of an option's range, or is none; the remedy names the range.

        Args:
            where: what has the option.
            option: its name.
            expected: the range in words, such as ``"a number above 0 and up to 1"``.
            got: what came instead.
        """
        if isinstance(got, str) and _is_number(got):
            told = f"{_value(got)}, which is text"
            return cls(where=_option(where, option), expected=expected, got=told, remedy="Write it without quotes.")
        return cls.value(where, option, expected, got, f"Set it to {expected}, or leave it out for its default.")

    @classmethod
    def value(cls, where: str, option: str, expected: str, got: object, remedy: str) -> Self:
        """Return the error for a value of any other kind.

        Args:
            where: what has the option.
            option: its name.
            expected: what would have been right, in words.
            got: what came instead.
            remedy: what to do.
        """
        return cls(where=_option(where, option), expected=expected, got=_value(got), remedy=remedy)


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


class StorageError(PrecompError, OSError):
    """A file cannot be written: its disk is full."""


class ExportError(PrecompError, RuntimeError):
    """A network cannot be written in another format."""


class NonFiniteError(PrecompError, ArithmeticError):
    """A loss term became NaN or infinite."""


class NotFittedError(PrecompError, RuntimeError):
    """A proxy or a task model is used before it was fitted."""


class CalibrationError(PrecompError, ValueError):
    """``lambda`` cannot be read off the anchor's curve."""


class ResourceError(PrecompError, MemoryError):
    """There is not enough memory or disk for what was asked."""


class CurveError(PrecompError, ValueError):
    """A rate-accuracy curve cannot be compared."""


class ConformanceError(PrecompError, AssertionError):
    """A component fails checks of its contract; the message lists every one, a line each."""

    _keeps_lines = True


def _option(where: str, option: str) -> str:
    return f"{where}, option {option!r}" if where else f"option {option!r}"


def _value(value: object) -> str:
    """Return a value as it is written, on one line, and so much of it as helps."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nearest_choice(got: object, choices: Sequence[object]) -> str:
    """Return a remedy that names the choices closest to a value: in spelling, or in size where all are numbers."""
    if isinstance(got, str) and _is_number(got) and float(got) in choices:
        return "Write it without quotes."
    close: Sequence[object] = ()
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in (*choices, got)):
        numbers = [(abs(item - got), item) for item in choices]  # type: ignore[operator]  # all are numbers
        close = [item for distance, item in numbers if distance == min(numbers)[0]]
    elif isinstance(got, str):
        close = get_close_matches(got, [item for item in choices if isinstance(item, str)], n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else "Choose one of them."


def file_trouble(error: OSError) -> str:
    """Return a sentence for an error of the operating system: the file, what is wrong, and what to do.

    Example:
        >>> file_trouble(FileNotFoundError(2, "No such file or directory", "x.png"))
        "'x.png': expected a file or folder that exists; got none. Check the path."
    """
    expected, got, remedy = _FILE_TROUBLE.get(
        error.errno or 0, ("to read or write it", error.strerror or str(error) or type(error).__name__, "")
    )
    names = " and ".join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    return printable(f"{names or 'a file'}: expected {expected}; got {got}. {remedy}".strip())


def reason_of(error: BaseException) -> str:
    """Return what an exception of others says, on one line: its kind and its text, or the operating system's words.

    Example:
        >>> reason_of(KeyError("x")), reason_of(OSError(2, "No such file or directory")), reason_of(ValueError())
        ("KeyError: 'x'", 'No such file or directory', 'ValueError')
    """
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


_FILE_TROUBLE = {  # expected, got, remedy
    errno.ENOENT: ("a file or folder that exists", "none", "Check the path."),
    errno.ENOTDIR: ("a folder wherever the path goes on", "a file on the way", "Check the path."),
    errno.EISDIR: ("a file", "a folder", "Name a file in it."),
    errno.EEXIST: ("a folder, or a path that is free", "a file", "Choose another path, or remove it."),
    errno.EACCES: ("permission to read or write it", "none", "Change its permissions, or choose another place."),
    errno.EPERM: ("permission to change it", "none", "Change its permissions, or choose another place."),
    errno.EROFS: ("a place to write to", "a file system that can only be read", "Choose another place."),
    errno.ENOSPC: ("room on the disk", "a full disk", "Free some space, or choose another disk."),
    errno.EDQUOT: ("room within your quota", "none left", "Free some space, or choose another place."),
    errno.EMFILE: ("to open it", "too many open files", "Raise the limit: ulimit -n."),
    errno.ENAMETOOLONG: ("a shorter path", "one that the file system does not take", "Choose shorter names."),
    errno.ELOOP: ("a link that leads to a file", "links in a circle", "Mend the links."),
}


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
