"""Components say what they are in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from precomp_sdk import Codec
from precomp_sdk.described import Described
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask


class WithLimits(FakeCodec):
    limits = frozenset({"most"})

    def __init__(self, *, level: int = 6, most: int = 9, fast: bool = False, slow: bool = True) -> None:
        super().__init__(level=level)
        self._more = {"most": most, "fast": fast, "slow": slow, "table": None}

    @property
    def options(self) -> Mapping[str, object]:
        return {**super().options, **self._more}


def test_options_are_told_and_what_is_off_or_a_limit_is_not() -> None:
    assert repr(FakeCodec(level=3)) == "FakeCodec(level=3)"
    assert repr(WithLimits()) == "WithLimits(level=6, slow=True, table=None)"  # no argument is called table
    assert repr(WithLimits(most=10, fast=True, slow=False)) == (
        "WithLimits(level=6, most=10, fast=True, slow=False, table=None)"
    )


def test_every_contract_has_it_and_networks_do_not_print_their_layers() -> None:
    components: list[object] = [
        FakeCodec(), FakeProxy(FakeCodec()), FakePreprocessor(gain=0.5), FakeTask(), FakeDataset(count=3)
    ]  # fmt: skip
    for component in components:
        assert isinstance(component, Described)
        assert "\n" not in repr(component)
        assert repr(component).startswith(f"{type(component).__name__}(")
    assert repr(components[3]) == "FakeTask(sharpness=40.0)"
    assert "count=3" in repr(components[4])


class OfAttributes(Described, nn.Module):
    def __init__(self, folder: Path, *, size: int = 3, network: nn.Module | None = None, names: Any = ()) -> None:
        super().__init__()
        self._folder, self.size, self.network, self.names = folder, size, network, list(names)


def test_without_a_property_the_plain_arguments_that_are_kept_are_told() -> None:
    told = repr(OfAttributes(Path("a") / "b", network=nn.Linear(2, 2), names=[torch.zeros(3)]))
    assert told == "OfAttributes(folder='a/b', size=3)"
    assert len(repr(OfAttributes(Path("x" * 500)))) < 150


class HalfMade(FakeCodec):
    def __init__(self) -> None:
        raise RuntimeError(repr(self))


def test_a_repr_never_fails() -> None:
    with pytest.raises(RuntimeError, match=r"^HalfMade\("):
        HalfMade()
    assert issubclass(HalfMade, Codec)
