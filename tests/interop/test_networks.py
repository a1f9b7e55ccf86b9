"""The blocks of the page "Bring your network" that need packages of others."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "networks.md"
BLOCK = r"^<!-- not run: [^\n]*where (\w+) is installed -->\n```python\n(.*?)^```$"
BLOCKS = re.findall(BLOCK, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_has_a_block_per_library() -> None:
    assert [package for package, _ in BLOCKS] == ["timm", "transformers", "segmentation_models_pytorch"]


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore")  # of their packages
@pytest.mark.parametrize(("package", "block"), BLOCKS, ids=[package for package, _ in BLOCKS])
def test_a_network_of_the_library_is_a_task(package: str, block: str) -> None:
    pytest.importorskip(package)
    exec(compile(block, f"networks.md, {package}", "exec"), {})
