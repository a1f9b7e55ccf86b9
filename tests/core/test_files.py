import os

import pytest

from precomp_sdk.files import replacing, write_files, write_whole


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_whole(path, "größe")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_bytes("no bytes")
    assert path.read_text(encoding="utf-8") == "größe"
    assert list(path.parent.iterdir()) == [path]


def test_files_of_a_set_are_new_together_or_old_together(tmp_path):
    write_files(tmp_path, {"a": b"1", "b": b"1"})
    with pytest.raises(TypeError):
        write_files(tmp_path, {"a": b"2", "b": "no bytes"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"1"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_gets_the_permissions_of_a_new_file_whatever_its_writer_gave_it(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"")
        temporary.chmod(0o600)
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "file").stat().st_mode == plain.stat().st_mode
