"""Makes mkdocstrings read what the code says in its own way: ``#:`` comments, shapes and units, sources."""

import ast
import re
from typing import Any

import griffe

_UNITS = re.compile(r"^Shapes and units:\n((?:    .*\n?|\n)+)", re.MULTILINE)
_SOURCE = re.compile(r"^Source:\s*((?:.+\n?)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\S[^:\n]*):", re.MULTILINE)


class Comments(griffe.Extension):
    """Attributes get the comment behind them as their docstring; units become a list, sources a line of their own."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Read ``name: type = value  #: what it is`` from the source; called by griffe for every attribute."""
        if attr.docstring is not None or not isinstance(node, ast.AnnAssign | ast.Assign):
            return
        try:
            lines = attr.lines_collection[attr.filepath]
        except (KeyError, TypeError):
            return
        _, mark, comment = lines[(node.end_lineno or node.lineno) - 1].partition("#: ")
        if mark:
            attr.docstring = griffe.Docstring(comment.strip(), parent=attr)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the sections that griffe does not know; called by griffe for every object."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        text = _UNITS.sub(lambda found: f"**Shapes and units**\n\n{_listed(found[1])}\n\n", text)
        text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
        if obj.is_class and "__init__" not in obj.members and "dataclass" not in obj.labels:  # pydantic's fields
            text = re.sub(r"^Args:$", "Attributes:", text, flags=re.MULTILINE)
        obj.docstring.value = _SOURCE.sub(lambda found: f"*Source:* {' '.join(found[1].split())}\n", text)


def _listed(entries: str) -> str:
    """Return ``name: text`` lines, indented, as a Markdown list."""
    lines = _ENTRY.sub(r"- **\1**:", entries.strip("\n") + "\n")
    return "\n".join(
        line.strip() if line.startswith("- ") else f"  {line.strip()}" for line in lines.splitlines() if line.strip()
    )
