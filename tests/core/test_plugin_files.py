"""A plugin that is a file: a module of its own, which other processes can import again."""

import pickle
import sys
from pathlib import Path

import pytest

from precomp_sdk import PluginError, Registry

CODEC = """
from precomp_sdk.testing import FakeCodec

class Mine(FakeCodec):
    name = "{name}"
"""


def plugin(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "codec.py").write_text(CODEC.format(name=name))
    return folder / "codec.py"


def test_two_files_of_one_name_stand_side_by_side(tmp_path: Path) -> None:
    first, second = Registry(entry_points=False), Registry(entry_points=False)
    first.add_file(plugin(tmp_path / "one", "one"))
    second.add_file(plugin(tmp_path / "two", "two"))
    for registry, name in ((first, "one"), (second, "two")):
        assert pickle.loads(pickle.dumps(registry.create("codec", name))).name == name
    with pytest.raises(PluginError, match=r"plugin 'codec' .*give two plugins different names"):
        first.add_file(tmp_path / "two" / "codec.py")


def test_a_file_that_is_imported_again_is_the_module_that_is_there(tmp_path: Path) -> None:
    path = plugin(tmp_path, "one")
    first, second = Registry(entry_points=False), Registry(entry_points=False)
    first.add_file(path)
    codec = first.create("codec", "one")
    second.add_file(path)
    assert type(second.create("codec", "one")) is type(codec)
    assert pickle.loads(pickle.dumps(codec)).name == "one"


def test_a_file_that_was_changed_is_imported_anew(tmp_path: Path) -> None:
    for name in ("one", "two"):
        registry = Registry(entry_points=False)
        registry.add_file(plugin(tmp_path, name))
        assert list(registry.codecs) == [name]


@pytest.mark.parametrize("raised", ["ValueError", "KeyboardInterrupt"])
def test_a_file_that_fails_leaves_nothing(raised: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(f"raise {raised}")
    for _ in range(2):  # the second time as the first
        with pytest.raises((PluginError, KeyboardInterrupt)):
            Registry(entry_points=False).add_file(path)
    assert not [name for name in sys.modules if "plugin_broken" in name]


def test_a_registry_pickles_with_its_files(tmp_path: Path) -> None:
    registry = Registry(entry_points=False)
    registry.add_file(plugin(tmp_path, "one"))
    again = pickle.loads(pickle.dumps(registry))
    assert list(again.codecs) == ["one"]
    assert again.files == registry.files
    with pytest.raises(LookupError, match="'fake'"):
        again.create("codec", "fake")  # it has no entry points either
