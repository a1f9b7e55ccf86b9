"""Documents of markup, each one file that needs nothing else."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from precomp_sdk.evaluation._markup import Html, element, joined

__all__ = ["details", "document", "section"]

# No page loads anything: images are data, styles and the script are inline, and the browser is told so.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


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
