"""A figure that notebooks show without pyplot."""

from io import BytesIO

from matplotlib.figure import Figure

__all__ = ["ShownFigure"]

_DPI = 80  # a notebook's column is about 1000 pixels wide


class ShownFigure(Figure):
    """A figure of Matplotlib that is an image as the last line of a cell, whatever backend is loaded."""

    def _repr_png_(self) -> bytes:
        """Return the image for a notebook."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()
