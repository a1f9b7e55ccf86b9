"""Components say what they are in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from precomp_sdk import BoxScorer, Channel, Codec, Compressor, Subset, TaskDataset, Trainer
from precomp_sdk.described import Described
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask, natural_image


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


def test_what_is_assembled_of_components_says_of_which() -> None:
    codec, preprocessor = FakeCodec(level=3), FakePreprocessor()
    assert (
        repr(Compressor(codec, preprocessor)) == "Compressor(codec=FakeCodec(level=3), preprocessor=FakePreprocessor())"
    )
    assert repr(Channel(codec)) == "Channel(codec=FakeCodec(level=3), preprocessor=None)"
    trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=FakeTask())
    told = "codec=FakeCodec(level=3), proxy=FakeProxy(), preprocessor=FakePreprocessor(), task=FakeTask(sharpness=40.0)"
    assert repr(trainer) == f"Trainer({told})"
    assert repr(object.__new__(Compressor)) == "Compressor(...)"
    assert repr(BoxScorer(3)) == "BoxScorer(num_classes=3)"
    rows = TaskDataset.of([natural_image(8, 8)] * 3, name="mine")
    assert repr(rows) == "TaskDataset.of(3 rows, name='mine')"
    assert repr(Subset(rows, [0, 2])) == "Subset(TaskDataset.of(3 rows, name='mine'), 2 images)"


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
