"""What a result shows of itself: at the prompt, in a notebook, as a figure, a data frame, plain values."""

import dataclasses
import html
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from precomp_sdk.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Viewed", "plain_values"]


class Viewed:
    """Views of a result; a result writes ``summary``, ``_figure`` and ``_rows``."""

    __slots__ = ()

    @abstractmethod
    def summary(self) -> str:
        """Return the result as a text table."""

    def to_dict(self) -> dict[str, Any]:
        """Return the whole result in plain JSON values."""
        found: dict[str, Any] = plain_values(self)
        return found

    @abstractmethod
    def _figure(self) -> "Figure":
        """Return the result drawn."""

    @abstractmethod
    def _rows(self) -> list[Mapping[str, object]]:
        """Return a row per measured point, by column."""

    def plot(self) -> "Figure":
        """Return the result as a figure of Matplotlib: shown by a notebook, written by its ``savefig``."""
        return self._figure()

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row per measured point.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                where="to_pandas", expected="pandas", got=str(error), remedy="Install it: pip install pandas."
            ) from error
        return pandas.DataFrame(self._rows())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()  # at the prompt; the fields would be a megabyte of numbers

    def _repr_html_(self) -> str:
        """Return the summary for a notebook."""
        return f'<pre style="line-height: 1.3">{html.escape(self.summary())}</pre>'


def plain_values(value: object) -> Any:
    """Return records as dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_values(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_values(item) for item in value]
    return value
