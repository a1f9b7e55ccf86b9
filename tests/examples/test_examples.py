"""Every numbered example runs, prints something, and uses public names only."""

import ast
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))


def test_there_are_scripts_and_the_page_lists_them() -> None:
    assert [path.name[:2] for path in SCRIPTS] == [f"{number:02}" for number in range(1, 12)]
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in SCRIPTS if f"({path.name})" not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []  # it cleans up


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_is_short_says_what_it_shows_and_imports_public_names(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= 96
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    ours = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("precomp")
        for name in node.names
    ]
    assert ours
    private = [(module, name) for module, name in ours if name.startswith("_") or "._" in f".{module}"]
    assert private == []
    assert [module for module, _ in ours if module.count(".") > 1] == []
