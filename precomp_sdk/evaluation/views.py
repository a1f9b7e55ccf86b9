"""What a result shows of itself: at the prompt, in a notebook, as a figure, a data frame, plain values."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from precomp_sdk.errors import MissingDependencyError
from precomp_sdk.evaluation._markup import Html, element, table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Shown", "ShownTable", "Viewed", "plain_values"]


@dataclass(frozen=True, slots=True)
class ShownTable:
    """Cells in columns, written once and shown as text, as Markdown or as HTML.

    Args:
        head: names of the columns.
        rows: a cell per column each.
        texts: how many columns hold words and stand to the left; the others hold numbers and stand to the right.

    Example:
        >>> print(ShownTable(("codec", "bits"), [("jpeg", "90"), ("bpg", "110")]).text())
        codec  bits
        jpeg     90
        bpg     110
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def text(self) -> str:
        """Return it with its columns aligned."""
        whole = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
        aligned = [
            [cell.ljust(width) if column < self.texts else cell.rjust(width) for column, (cell, width) in cells]
            for cells in (enumerate(zip(row, widths, strict=True)) for row in whole)
        ]
        return "\n".join("  ".join(row).rstrip() for row in aligned)

    def markdown(self) -> str:
        """Return it as Markdown."""
        whole = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in whole)

    def markup(self) -> Html:
        """Return it as HTML, with its cells escaped."""
        return table(self.head, self.rows, texts=self.texts)


class Shown:
    """What says itself as text at the prompt and as HTML in a notebook; a result writes ``_shown``."""

    __slots__ = ()

    @abstractmethod
    def _shown(self) -> Iterable[str | ShownTable]:
        """Return paragraphs and tables, in their order."""

    def summary(self) -> str:
        """Return the result as text, its tables with columns aligned."""
        return "\n\n".join(part if isinstance(part, str) else part.text() for part in self._shown())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()  # at the prompt; the fields would be a megabyte of numbers

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        return element("div", *(_paragraph(part) if isinstance(part, str) else part.markup() for part in self._shown()))


class Viewed(Shown):
    """A result that is also drawn, and written as rows: it writes ``_figure`` and ``_rows``."""

    __slots__ = ()

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


def _paragraph(text: str) -> Html:
    lines = [part for line in text.split("\n") for part in (line, element("br"))]
    return element("p", *lines[:-1])


def plain_values(value: object) -> Any:
    """Return records as dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_values(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_values(item) for item in value]
    return value
