import os
import threading

import pytest

from precomp_sdk.atomic_io import check_target, replacing, write_files, write_whole
from precomp_sdk.errors import OptionError


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_whole(path, "größe")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_bytes("no bytes")
    assert path.read_text(encoding="utf-8") == "größe"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_known_before(tmp_path):
    check_target(tmp_path / "new" / "file.txt")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(OptionError, match=r"output: expected a file to write; got the folder .*new"):
        check_target(tmp_path / "new")
    (tmp_path / "taken").touch()
    with pytest.raises(OSError, match="taken"):
        check_target(tmp_path / "taken" / "file.txt")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_links_and_pipes_stay_what_they_are(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"

    os.mkfifo(tmp_path / "pipe")
    check_target(tmp_path / "pipe")  # neither waits nor refuses
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", b"through")
    reader.join(timeout=10)
    assert received == [b"through"]


def test_no_file_of_a_set_is_put_in_place_before_all_are_whole(tmp_path):
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
