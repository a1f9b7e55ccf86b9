"""The notebooks run, and what they show is what a run gave: docs/_tools/run_notebooks.py."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {"COUNT": 32, "EPOCHS": 1, "FIT_STEPS": 2, "STEPS": 2}
OF_A_MACHINE = re.compile(r"/(?:home|root|tmp|work|usr|opt|Users)/")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_saving", "your_codec", "your_network"]


@each
def test_what_it_shows_is_of_one_run_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in cells]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))  # not run yet, or once from the top
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not OF_A_MACHINE.search(text)
    assert len(text) < 600_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's
@each
def test_it_runs(path: Path, tmp_path: Path) -> None:
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    names = [name for name in SMALL if re.search(rf"\b{name}\b", parameters.source)]
    assert names
    parameters.source += "".join(f"\n{name} = {SMALL[name]}" for name in names)
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
