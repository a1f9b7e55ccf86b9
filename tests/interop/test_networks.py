"""The blocks of the page "Bring your network" that need packages of others; tests/docs runs the rest."""

import re
from pathlib import Path
from typing import Any

import pytest

from precomp_sdk import Label
from precomp_sdk.image_io import encode_png
from precomp_sdk.testing import natural_image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "networks.md"
BLOCK = r"^<!-- not run: [^\n]*where (\w+) is installed -->\n```python\n(.*?)^```$"
BLOCKS = re.findall(BLOCK, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_has_a_block_per_library() -> None:
    assert [package for package, _ in BLOCKS] == ["timm", "transformers", "segmentation_models_pytorch", "datasets"]


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore")  # of their packages
@pytest.mark.parametrize(("package", "block"), BLOCKS, ids=[package for package, _ in BLOCKS])
def test_the_block_of_the_library_runs(package: str, block: str) -> None:
    pytest.importorskip(package)
    exec(compile(block, f"networks.md, {package}", "exec"), {})


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore")  # of their packages
def test_parquet_shards_are_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    image = encode_png(natural_image(40, 60))
    for shard in range(2):
        rows = [{"image": {"bytes": image, "path": None}, "label": index % 2} for index in range(3)]
        (tmp_path / "shards").mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "shards" / f"train-{shard}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (block,) = re.findall(
        r"^<!-- not run: [^\n]*where datasets is installed -->\n```python\n(.*?)^```$",
        PAGE.with_name("scaling.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    names: dict[str, Any] = {}
    exec(compile(block, "scaling.md", "exec"), names)
    assert len(names["dataset"]) == 6
    assert names["dataset"][5].target == Label(0)
