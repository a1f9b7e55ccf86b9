"""Notebooks are pages: their cells and stored outputs as Markdown, with the notebook itself to download beside it."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

_LINK = re.compile(r"(\]\([^)\s]+)\.ipynb(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add a page, and its images, for each notebook; called by MkDocs."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = PurePosixPath(file.src_uri)
        cells = json.loads(Path(file.abs_src_path).read_text(encoding="utf-8"))["cells"]
        images: dict[str, bytes] = {}
        heading, *parts = (part for cell in cells for part in _parts(cell, path.stem, images))
        title, _, rest = heading.partition("\n")
        download = f'<a href="{path.name}" download>Download this notebook</a>'
        text = "\n\n".join((title, rest.strip(), download, *parts))
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
        for name, content in images.items():
            files.append(File.generated(config, str(path.parent / name), content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to notebooks lead to their pages; called by MkDocs."""
    return _LINK.sub(r"\1.md\2)", markdown)


def _parts(cell: Any, stem: str, images: dict[str, bytes]) -> Iterator[str]:
    """Yield a cell as Markdown, source first, and add the images it shows."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        shown = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in shown:
            name = f"{stem}_{len(images)}.png"
            images[name] = base64.b64decode("".join(shown["image/png"]))
            yield f"![What the cell shows]({name})"
        elif "text/html" in shown:
            yield "".join(shown["text/html"])
        else:
            yield f"```text\n{''.join(shown['text/plain']).rstrip()}\n```"
