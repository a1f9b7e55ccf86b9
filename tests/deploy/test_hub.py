from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from precomp_sdk import CheckpointError, Codec, Compressor, MissingDependencyError, Registry
from precomp_sdk.deploy.hub import SENDER_FILE_ON_HUB
from precomp_sdk.testing import FakeCodec, FakePreprocessor

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)


@pytest.fixture
def sender() -> Compressor:
    return Compressor(FakeCodec(), FakePreprocessor(gain=0.5))


@pytest.fixture
def cache(sender: Compressor, tmp_path: Path) -> Path:
    """A cache in the hub's layout, as a download leaves it."""
    pytest.importorskip("huggingface_hub")
    snapshot = tmp_path / "models--someone--small" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    sender.save(snapshot / SENDER_FILE_ON_HUB)
    refs = tmp_path / "models--someone--small" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    return tmp_path


class Hub:
    """Stands in for HfApi: a repository is a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, list[tuple[str, bool]]()

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.made.append((repo, private))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        import shutil

        shutil.copytree(folder_path, self.root / repo_id)
        return f"commit: {commit_message}"


def test_a_sender_comes_from_the_hubs_cache(cache: Path, sender: Compressor, doubles: Registry) -> None:
    for revision in (None, "main", COMMIT):
        again = Compressor.from_pretrained("someone/small", doubles, revision=revision, cache=cache, offline=True)
        assert again.compress(IMAGE, 30) == sender.compress(IMAGE, 30)
    with pytest.raises(CheckpointError, match="someone/other"):
        Compressor.from_pretrained("someone/other", doubles, cache=cache, offline=True)
    with pytest.raises(CheckpointError, match="at v2"):
        Compressor.from_pretrained("someone/small", doubles, revision="v2", cache=cache, offline=True)


def test_what_is_pushed_comes_back(sender: Compressor, tmp_path: Path, doubles: Registry) -> None:
    hub = Hub(tmp_path)
    assert sender.push_to_hub("someone/small", private=True, message="First", api=hub) == "commit: First"
    assert hub.made == [("someone/small", True)]
    folder = tmp_path / "someone" / "small"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: precomp-sdk\n")
    assert "Compressor.from_pretrained" in card
    assert "`fake`" in card
    assert {path.name for path in folder.iterdir()} == {"README.md", SENDER_FILE_ON_HUB}
    again = Compressor.from_pretrained(folder, doubles)
    assert again.compress(IMAGE, 30) == sender.compress(IMAGE, 30)


class Named(FakeCodec):
    """A codec with an option that names a program."""

    name = "named"
    unsafe_options: ClassVar[Mapping[str, str]] = {"tool": "program"}

    def __init__(self, *, tool: str = "") -> None:
        super().__init__()
        self.tool = tool

    @property
    def options(self) -> dict[str, Any]:
        return {"tool": self.tool}


def test_what_comes_from_the_hub_runs_nothing(tmp_path: Path, doubles: Registry) -> None:
    doubles.add(Named)
    codec: Codec = Named(tool="/bin/run-me")
    Compressor(codec, FakePreprocessor()).save(tmp_path / SENDER_FILE_ON_HUB)
    with pytest.raises(CheckpointError, match="names a program"):
        Compressor.from_pretrained(tmp_path, doubles)
    with pytest.raises(TypeError, match="trust"):
        Compressor.from_pretrained(tmp_path, doubles, trust=True)  # type: ignore[call-arg]


class NeedsTask(FakePreprocessor):
    name = "needs-task"
    requires = ("task",)


def test_what_is_refused(sender: Compressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="works with its task"):
        Compressor(FakeCodec(), NeedsTask()).push_to_hub("someone/small", api=Hub(tmp_path))

    def refused(*_: object, **__: object) -> None:
        raise OSError("403 Forbidden")

    with pytest.raises(CheckpointError, match="403"):
        sender.push_to_hub("someone/small", api=SimpleNamespace(create_repo=refused))
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match="hub"):
        Compressor.from_pretrained("someone/small")
