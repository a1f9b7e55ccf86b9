"""Files made to cost time are read within 2 s of CPU and 1 s for each megapixel that they hold, or refused."""

import pytest

from precomp_sdk import Registry

from ..benchmark import benchmark

hostile = benchmark("hostile_files")
ABLE = {item.name for item in Registry().components() if item.kind == "codec" and not item.missing()}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(hostile.ATTACKS))
def test_a_file_made_to_cost_time_does_not(name: str) -> None:
    codec, _, refused = hostile.ATTACKS[name]
    if codec and codec not in ABLE:
        pytest.skip(f"{codec} is not installed")
    for reader, found in hostile.costs(name).items():
        assert found.bounded, f"{reader}: {found}"
        assert refused in (None, bool(found.refused)), f"{reader}: {found}"
