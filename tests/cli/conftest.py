from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner, Result

from precomp_sdk import Registry, cli

Call = Callable[..., Result]


@pytest.fixture
def call(doubles: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line with the proxies, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, registry: Registry | None = doubles) -> Result:
        return CliRunner().invoke(cli.app, list(arguments), obj=registry)

    return invoke


@pytest.fixture
def mine(tables: dict[str, Any], tmp_path: Path) -> Path:
    tables["output"]["folder"] = "run"
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return path
