"""What is built holds what is here: wheel and sdist, every package with its types, weights and entry point."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [ROOT / name for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def built(source: Path, kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = folder.iterdir()
    return found


def files(packages: Iterable[Path]) -> set[str]:
    """Return what the packages hold, each file's name within the wheel."""
    return {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_package_is_listed_typed_and_has_an_entry_point() -> None:
    plugins = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert len(plugins) > 5
    assert {path.name for path in PACKAGES} == plugins | {"precomp_sdk"}
    assert all((path / "py.typed").is_file() for path in PACKAGES)
    assert set(PROJECT["project"]["entry-points"]["precomp_sdk"].values()) == plugins | {"precomp_sdk.builtin"}


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_same_packages_whole(tmp_path: Path) -> None:
    wanted = files(PACKAGES)
    assert any(name.endswith(".safetensors") for name in wanted)
    with zipfile.ZipFile(built(ROOT, "wheel", tmp_path / "wheel")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == wanted
    with tarfile.open(built(ROOT, "sdist", tmp_path / "sdist")) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert (source / "LICENSE").is_file()
    with zipfile.ZipFile(built(source, "wheel", tmp_path / "again")) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted
