"""Markup that cannot be broken into: every string is text and escaped, unless `element` made it."""

import html
from collections.abc import Iterable, Sequence

from precomp_sdk.errors import printable

__all__ = ["Html", "element", "joined", "table"]

_VOID = frozenset({"br", "img", "meta"})


class Html(str):
    """Markup that is ready. Only this module makes it; any other string is text."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | float | None) -> Html:
    """Return an element; text in it and values of attributes are escaped, attributes that are None left out.

    Args:
        name: of the element.
        content: text, or what this function returned.
        attributes: ``class_`` is written as ``class``, ``data_tip`` as ``data-tip``.

    Example:
        >>> element("td", "<b>", element("br"), class_="left")
        '<td class="left">&lt;b&gt;<br></td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(f"{value:g}" if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opened = f"<{name}{written}>"
    return Html(opened if name in _VOID else f"{opened}{joined(content)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """Return text and markup in a row."""
    return Html("".join(part if isinstance(part, Html) else _escape(part) for part in parts))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> Html:
    """Return a table that scrolls sideways where it is too wide; the first ``texts`` columns stand to the left.

    A page has a style for the classes; a notebook has none, and aligns cells to the right by itself.
    """
    classes = ["text" if column < texts else None for column in range(len(head))]
    top = element("tr", *(element("th", cell, class_=name) for cell, name in zip(head, classes, strict=True)))
    body = [
        element("tr", *(element("td", cell, class_=name) for cell, name in zip(row, classes, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", top), element("tbody", *body)), class_="wide")


def _escape(text: str) -> str:
    return html.escape(printable(text, lines=True), quote=True)
