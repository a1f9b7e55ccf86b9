"""Markup that cannot be broken into: every string is text and escaped, unless `element` made it."""

import html
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from precomp_sdk.errors import printable

__all__ = ["Html", "details", "document", "element", "joined", "section", "table"]

# No page loads anything: images are data, styles and the script are inline, and the browser is told so.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_VOID = frozenset({"img", "meta"})


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
        '<td class="left">&lt;b&gt;<br></br></td>'
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
    """Return a table that scrolls sideways where it is too wide; the first ``texts`` columns stand to the left."""
    classes = ["text" if column < texts else None for column in range(len(head))]
    top = element("tr", *(element("th", cell, class_=name) for cell, name in zip(head, classes, strict=True)))
    body = [
        element("tr", *(element("td", cell, class_=name) for cell, name in zip(row, classes, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", top), element("tbody", *body)), class_="wide")


def section(title: str, *content: str) -> Html:
    """Return a part of a page under its title."""
    return element("section", element("h2", title), *content)


def details(title: str, *content: str) -> Html:
    """Return what is shown on request."""
    return element("details", element("summary", title), *content)


def document(title: str, lead: Sequence[str], sections: Iterable[str]) -> str:
    """Return a whole page that needs nothing else.

    Args:
        title: of the page.
        lead: its first lines, text or markup.
        sections: its parts.
    """
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name_="color-scheme", content="light dark"),
            element("title", title),
            Html(f"<style>{_resource('page.css')}</style>"),
        ]
    )
    body = joined(
        [
            element("header", element("h1", title), *(element("p", line) for line in lead)),
            element("main", *sections),
            element("div", id="tip", role="status"),
            Html(f"<script>{_resource('page.js')}</script>"),
        ]
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


@cache
def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _escape(text: str) -> str:
    return html.escape(printable(text, lines=True), quote=True)
