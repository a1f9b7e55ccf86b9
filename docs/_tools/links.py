"""Links to files outside docs/ work in a checkout; the site names the file instead."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?!\.)[^)#]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links that leave the folder of the docs; called by MkDocs."""
    depth = page.file.src_uri.count("/")

    def replaced(found: re.Match[str]) -> str:
        text, target = found.groups()
        ups = target.count("../")
        if ups <= depth:
            return found[0]
        path = target.replace("../", "")
        return f"`{path}`" if text.strip("`") in path else f"{text} (`{path}`)"

    return _OUTSIDE.sub(replaced, markdown)
