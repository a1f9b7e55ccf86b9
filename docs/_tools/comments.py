"""Attributes that are documented by a ``#:`` comment on their line get it as their docstring."""

import ast
from typing import Any

import griffe


class Comments(griffe.Extension):
    """Reads ``name: type = value  #: what it is`` from the source."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Called by griffe for every attribute."""
        if attr.docstring is not None or not isinstance(node, ast.AnnAssign | ast.Assign):
            return
        try:
            lines = attr.lines_collection[attr.filepath]
        except (KeyError, TypeError):
            return
        last = lines[(node.end_lineno or node.lineno) - 1]
        _, mark, comment = last.partition("#: ")
        if mark:
            attr.docstring = griffe.Docstring(comment.strip(), parent=attr)
