"""Teaches a trainable preprocessor what refinement finds image by image."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from precomp_refine.refiner import Refiner
from precomp_sdk import (
    NonFiniteError,
    OptionError,
    Preprocessor,
    RunFinished,
    RunStarted,
    StepDone,
    TaskDataset,
    device_of,
    load_samples,
    to_float,
)
from precomp_sdk.observers import Listener, listening

__all__ = ["AmortizationResult", "amortize"]

_HELD_OUT = 10  # one of so many pairs is kept back


@dataclass(frozen=True, slots=True)
class AmortizationResult:
    """How much of refinement a network has learnt.

    Args:
        explained: share of the refinement's squared change that the network predicts, on its training images.
        held_out_explained: likewise on images it was not trained on; 0 is as good as leaving them alone.
        images: how many were refined.
        refining_seconds: wall time of refining them.
        regression_seconds: wall time of the regression.
    """

    explained: float
    held_out_explained: float
    images: int
    refining_seconds: float
    regression_seconds: float


def amortize(
    preprocessor: Preprocessor,
    refiner: Refiner,
    dataset: TaskDataset,
    *,
    ladder: Sequence[float],
    steps: int = 1000,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    clip_norm: float = 1.0,
    seed: int = 0,
    observer: Listener = "auto",
) -> AmortizationResult:
    """Refine images one by one and regress a network onto what came of them: a dense target to start from.

    Every image is refined at one quality, drawn from the ladder, and kept as 8 bits. The loss is the mean squared
    error of the network's change against the refinement's, over the mean square of the refinement's change over all
    images; what is reported as explained is 1 minus that. One image in ten is held out.

    Args:
        preprocessor: trained in place, and left in evaluation mode; go on with `precomp_sdk.training.Trainer`.
        refiner: prepared, see `Refiner.prepare`.
        dataset: images of one size, ten or more; labels are not used.
        ladder: qualities to draw from.
        steps: of the regression.
        batch_size: images per step.
        learning_rate: peak of AdamW's; a cosine to zero.
        clip_norm: gradients are scaled down to this norm.
        seed: of the qualities and the order.
        observer: called with every event; see `precomp_sdk.observers.listening`.

    Raises:
        OptionError: there are fewer than ten images, or they differ in size; a number is not positive; the network
            has no parameters, or codes at another resolution than the refiner; refinement changes nothing.
        QualityError: a quality of the ladder is off the scale.
        NonFiniteError: the loss became NaN or infinite.
        PrecompError: as `Refiner.refine` raises it.

    Source: amortized optimization; the targets are `Refiner`'s.
    """
    numbers = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "clip_norm": clip_norm}
    for option, number in numbers.items():
        if not number > 0:
            raise OptionError.number("amortize", option, "a number above 0", number)
    samples, _ = load_samples(dataset, range(len(dataset)))
    images = [sample.image for sample in samples]
    sizes = {tuple(image.shape) for image in images}
    _check(
        len(images) >= _HELD_OUT and len(sizes) == 1,
        f"{_HELD_OUT} images or more of one size",
        f"{len(images)} images of {len(sizes)} sizes",
        "Crop the images: an option of most data sets.",
    )
    ladder = _checked_ladder(preprocessor, refiner, ladder)
    draw = random.Random(seed)
    qualities = [draw.choice(ladder) for _ in images]
    started = time.perf_counter()
    refined = [source.image for source in refiner.refine(images, qualities).images]
    refining_seconds = time.perf_counter() - started
    strengths = list(map(refiner.codec.quality_scale.strength, qualities))
    pairs = _Pairs(preprocessor, images, refined, strengths, batch_size)
    rows = list(range(len(images)))
    draw.shuffle(rows)
    held, learnt = rows[: len(rows) // _HELD_OUT], rows[len(rows) // _HELD_OUT :]
    typical = pairs.mean(pairs.change, learnt)
    _check(typical > 0, "refinement that changes some image", "none that does", "Take more steps, or other lambdas.")
    started = time.perf_counter()
    with listening(observer) as notify:
        notify(RunStarted("amortize", steps, {"images": len(images), "preprocessor": preprocessor.name}))
        preprocessor.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(preprocessor.parameters(), lr=learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(1, steps + 1):
            loss = pairs.missed(draw.choices(learnt, k=batch_size)) / typical
            value = _finite(float(loss.detach()), step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(preprocessor.parameters(), clip_norm)
            optimizer.step()
            schedule.step()
            notify(StepDone("amortize", step, steps, {"unexplained": value}))
        preprocessor.eval()
        explained, held_out = (pairs.explained(group, typical) for group in (learnt, held))
        seconds = time.perf_counter() - started
        notify(RunFinished("amortize", seconds))
    return AmortizationResult(explained, held_out, len(images), refining_seconds, seconds)


@dataclass(frozen=True)
class _Pairs:
    """Images (3, H, W) in uint8, what refinement made of each at its strength, and the network that learns it."""

    network: Preprocessor
    images: Sequence[Tensor]
    refined: Sequence[Tensor]
    strengths: Sequence[float]
    batch_size: int

    def missed(self, rows: Sequence[int]) -> Tensor:
        """Return the mean squared error of the network on some rows."""
        sources, targets = self._batch(self.images, rows), self._batch(self.refined, rows)
        strengths = torch.tensor([self.strengths[row] for row in rows], device=sources.device)
        result: Tensor = (self.network(sources, strengths) - targets).square().mean()
        return result

    def change(self, rows: Sequence[int]) -> Tensor:
        """Return the mean square of what refinement changed in some rows."""
        return (self._batch(self.refined, rows) - self._batch(self.images, rows)).square().mean()

    @torch.no_grad()
    def mean(self, value: Callable[[Sequence[int]], Tensor], rows: Sequence[int]) -> float:
        """Return the mean over rows of what is measured on a batch of them at a time."""
        parts = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return sum(float(value(part)) * len(part) for part in parts) / len(rows)

    def explained(self, rows: Sequence[int], typical: float) -> float:
        """Return the share of refinement's squared change that the network predicts."""
        return 1.0 - self.mean(self.missed, rows) / (self.mean(self.change, rows) or typical)

    def _batch(self, images: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
        return to_float(torch.stack([images[row] for row in rows])).to(device_of(self.network))


def _checked_ladder(preprocessor: Preprocessor, refiner: Refiner, ladder: Sequence[float]) -> list[float]:
    """Return the qualities, at each of which both code at the same resolution."""
    scale = refiner.codec.quality_scale
    qualities = [scale.check(quality) for quality in ladder]
    _check(bool(qualities), "a ladder of one quality or more", "none", "Take the one you train for.")
    learns = next(preprocessor.parameters(), None) is not None
    _check(learns, "a preprocessor with parameters", f"{preprocessor.name!r} without", "Take qa-light.")
    for strength in map(scale.strength, qualities):
        theirs, ours = refiner.resolution(strength), preprocessor.resolution(strength)
        _check(
            theirs == ours,
            f"a preprocessor that codes at the refiner's resolution, {theirs:g} at strength {strength:g}",
            f"{ours:g}",
            "Give both the same resolutions.",
        )
    return qualities


def _finite(loss: float, step: int) -> float:
    if not loss < float("inf"):  # also False for NaN
        raise NonFiniteError(
            where=f"amortize, step {step}", expected="a finite loss", got=str(loss), remedy="Lower learning_rate."
        )
    return loss


def _check(good: bool, expected: str, got: str, remedy: str) -> None:
    if not good:
        raise OptionError(where="amortize", expected=expected, got=got, remedy=remedy)
