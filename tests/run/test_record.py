from pathlib import Path

import pytest

from precomp_sdk.errors import CheckpointError
from precomp_sdk.run import read_record


@pytest.mark.parametrize("content", [None, "{", '{"format": "other"}', "[]"])
def test_a_damaged_record_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="utf-8")

    with pytest.raises(CheckpointError, match="the record of a run"):
        read_record(tmp_path)
