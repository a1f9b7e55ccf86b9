from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from precomp_refine import Refiner, amortize
from precomp_sdk import Event, NonFiniteError, OptionError, Preprocessor, StepDone, Subset
from precomp_sdk.testing import FakeDataset, FakeTask

LADDER = (5.0, 30.0)


class Brightener(Preprocessor):
    """Adds one offset per channel: all that the refinement below can be explained by."""

    name = "brightener"
    source = "a double"

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.full((3, 1, 1), start))

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images + self.offset


class Shifting(Refiner):
    """Refines every picture by adding 8 levels, and remembers at which qualities."""

    def refine(self, images: Any, qualities: Any, **options: Any) -> Any:
        done = super().refine(images, qualities, **options)
        self.asked = list(qualities)
        for picture, image in zip(done.pictures, images, strict=True):
            object.__setattr__(picture, "image", (image.to(torch.int16) + 8).clamp(0, 255).to(torch.uint8))
        return done


@pytest.fixture
def shifting(make: Callable[..., Refiner]) -> Shifting:
    refiner = make(FakeTask(), steps=1)
    refiner.__class__ = Shifting
    assert isinstance(refiner, Shifting)
    return refiner


def test_a_network_learns_what_refinement_does(shifting: Shifting) -> None:
    network, events = Brightener(), list[Event]()
    result = amortize(
        network, shifting, FakeDataset(count=20), ladder=LADDER, steps=120, learning_rate=3e-3, observer=events.append
    )
    assert set(shifting.asked) == set(LADDER)
    assert network.offset.detach().flatten().tolist() == pytest.approx([8 / 255] * 3, abs=2e-3)
    assert result.pictures == 20
    assert result.explained > 0.9
    assert result.held_out_explained > 0.9
    assert not network.training
    losses = [event.scalars["unexplained"] for event in events if isinstance(event, StepDone)]
    assert len(losses) == 120
    assert losses[0] == pytest.approx(1.0, abs=1e-3)  # the identity explains nothing


def test_a_network_that_predicts_nothing_explains_nothing(make: Callable[..., Refiner]) -> None:
    result = amortize(
        Brightener(), make(FakeTask(), steps=4), FakeDataset(count=10), ladder=LADDER, steps=1, learning_rate=1e-9
    )
    assert result.explained == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("options", [{"steps": 0}, {"learning_rate": 0.0}, {"batch_size": 0}, {"clip_norm": -1.0}])
def test_wrong_numbers_are_refused(make: Callable[..., Refiner], options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        amortize(Brightener(), make(FakeTask()), FakeDataset(count=10), ladder=LADDER, **options)


@pytest.mark.parametrize(
    "dataset", [Subset(FakeDataset(count=10), range(9)), FakeDataset(count=12, sizes=[(8, 8), (9, 8)])]
)
def test_too_few_pictures_or_several_sizes_are_refused(make: Callable[..., Refiner], dataset: Any) -> None:
    with pytest.raises(OptionError, match="of one size"):
        amortize(Brightener(), make(FakeTask()), dataset, ladder=LADDER)


def test_a_loss_that_is_not_finite_names_its_step(make: Callable[..., Refiner]) -> None:
    with pytest.raises(NonFiniteError, match="step 1"):
        amortize(Brightener(float("nan")), make(FakeTask(), steps=1), FakeDataset(count=10), ladder=LADDER)


def test_a_resolution_is_refined_at_and_kept(make: Callable[..., Refiner], pictures: list[Tensor]) -> None:
    """What is coded is the shrunk picture: the plain terms are the codec's of it, and no picture gets worse."""
    from precomp_sdk import Transcoder, shrink, stack_images

    refiner = make(FakeTask(), resolutions=[[0.0, 0.5]])
    assert refiner.resolution(0.3) == 0.5
    refinement = refiner.refine(pictures, 5)
    with Transcoder(refiner.codec) as transcoder:
        for picture, source in zip(refinement.pictures, pictures, strict=True):
            for terms, image in ((picture.plain, source), (picture.refined, picture.image)):
                sent = shrink(stack_images([image]), 0.5)
                assert transcoder.submit(sent, [5]).result()[0].bits == terms.bits
            assert picture.image.shape == source.shape
            assert picture.refined.objective <= picture.plain.objective


def test_the_resolution_of_the_start_is_taken_where_none_is_given(make: Callable[..., Refiner]) -> None:
    class Halving(Brightener):
        def resolution(self, strength: float) -> float:
            return 0.5

    assert make(FakeTask(), start=Halving()).resolution(0.9) == 0.5
    assert make(FakeTask(), start=Halving(), resolutions=[[0.0, 0.75]]).resolution(0.9) == 0.75
    assert make(FakeTask()).resolution(0.9) == 1.0
