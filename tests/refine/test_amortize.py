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
    """Refines most images by adding 8 levels, and remembers at which qualities."""

    def refine(self, images: Any, qualities: Any, **options: Any) -> Any:
        done = super().refine(images, qualities, **options)
        self.asked = list(qualities)
        for index, (source, image) in enumerate(zip(done.images, images, strict=True)):
            levels = 0 if index % 4 == 0 else 8  # some images cannot be refined
            object.__setattr__(source, "image", (image.to(torch.int16) + levels).clamp(0, 255).to(torch.uint8))
        return done


@pytest.fixture
def shifting(make: Callable[..., Refiner]) -> Shifting:
    refiner = make(FakeTask(), steps=1)
    refiner.__class__ = Shifting
    assert isinstance(refiner, Shifting)
    return refiner


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_network_learns_what_refinement_does(shifting: Shifting, batch_size: int) -> None:
    """One offset for all, of 6 to 8 levels where a quarter of the images stay: 2 / 3 to 3 / 4 of the change."""
    network, events = Brightener(), list[Event]()
    result = amortize(
        network, shifting, FakeDataset(count=40), ladder=LADDER, steps=400, batch_size=batch_size, learning_rate=2e-3,
        observer=events.append,
    )  # fmt: skip
    assert set(shifting.asked) == set(LADDER)
    assert network.offset.detach().flatten().tolist() == pytest.approx([7 / 255] * 3, abs=2 / 255)
    assert result.images == 40
    assert result.explained == pytest.approx(0.71, abs=0.1)
    assert -1.0 < result.held_out_explained <= 1.0  # of 4 images
    assert not network.training
    losses = [event.scalars["unexplained"] for event in events if isinstance(event, StepDone)]
    assert len(losses) == 400


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
def test_too_few_images_or_several_sizes_are_refused(make: Callable[..., Refiner], dataset: Any) -> None:
    with pytest.raises(OptionError, match="of one size"):
        amortize(Brightener(), make(FakeTask()), dataset, ladder=LADDER)


def test_what_cannot_be_amortized_is_refused(make: Callable[..., Refiner], shifting: Shifting) -> None:
    class Bare(Preprocessor):
        name = "bare"
        source = "a double"

        def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
            return images

    sources = FakeDataset(count=10)
    with pytest.raises(OptionError, match="with parameters"):
        amortize(Bare(), shifting, sources, ladder=LADDER)
    with pytest.raises(OptionError, match="a ladder of one quality"):
        amortize(Brightener(), shifting, sources, ladder=())
    with pytest.raises(OptionError, match=r"resolution, 0\.5 at strength"):
        amortize(Brightener(), make(FakeTask(), resolutions=[[0.0, 0.5]]), sources, ladder=LADDER)
    with pytest.raises(OptionError, match="changes some image"):
        amortize(Brightener(), make(FakeTask(), steps=1, step_levels=1e-6), sources, ladder=LADDER)


def test_a_loss_that_is_not_finite_names_its_step(make: Callable[..., Refiner]) -> None:
    with pytest.raises(NonFiniteError, match="step 1"):
        amortize(Brightener(float("nan")), make(FakeTask(), steps=1), FakeDataset(count=10), ladder=LADDER)


def test_a_resolution_is_refined_at_and_kept(make: Callable[..., Refiner], photographs: list[Tensor]) -> None:
    """What is coded is the downscaled image: the plain terms are the codec's of it, and no image gets worse."""
    from precomp_sdk import Transcoder, downscale, stack_images

    refiner = make(FakeTask(), resolutions=[[0.0, 0.5]])
    assert refiner.resolution(0.3) == 0.5
    refinement = refiner.refine(photographs, 5)
    with Transcoder(refiner.codec) as transcoder:
        for refined, source in zip(refinement.images, photographs, strict=True):
            for terms, image in ((refined.anchor, source), (refined.refined, refined.image)):
                sent = downscale(stack_images([image]), 0.5)
                assert transcoder.submit(sent, [5]).result()[0].bits == terms.bits
            assert refined.image.shape == source.shape
            assert refined.refined.objective <= refined.anchor.objective


def test_the_resolution_of_the_start_is_taken_where_none_is_given(make: Callable[..., Refiner]) -> None:
    class Halving(Brightener):
        def resolution(self, strength: float) -> float:
            return 0.5

    assert make(FakeTask(), start=Halving()).resolution(0.9) == 0.5
    assert make(FakeTask(), start=Halving(), resolutions=[[0.0, 0.75]]).resolution(0.9) == 0.75
    assert make(FakeTask()).resolution(0.9) == 1.0
