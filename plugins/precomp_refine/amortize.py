"""Teaches a trainable preprocessor what refinement finds picture by picture."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from precomp_refine.refiner import Refiner
from precomp_sdk import (
    Event,
    NonFiniteError,
    OptionError,
    Preprocessor,
    RunFinished,
    RunStarted,
    StepDone,
    TaskDataset,
    load_samples,
    to_float,
)

__all__ = ["AmortizationResult", "amortize"]

_HELD_OUT = 10  # one of so many pairs is kept back


@dataclass(frozen=True, slots=True)
class AmortizationResult:
    """How much of refinement a network has learnt.

    Args:
        explained: share of the refinement's squared change that the network predicts, on its training pictures.
        held_out_explained: likewise on pictures it was not trained on; 0 is as good as leaving them alone.
        pictures: how many were refined.
        refining_seconds: wall time of refining them.
        regression_seconds: wall time of the regression.
    """

    explained: float
    held_out_explained: float
    pictures: int
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
    observer: Callable[[Event], None] | None = None,
) -> AmortizationResult:
    """Refine pictures one by one and regress a network onto what came of them: a dense target to start from.

    Every picture is refined at one quality, drawn from the ladder, and kept as 8 bits. The loss is the mean squared
    error of the network's change against the refinement's, over the mean square of the refinement's change; what is
    reported as explained is 1 minus that. One picture in ten is held out.

    Args:
        preprocessor: trained in place, and left in evaluation mode; go on with `precomp_sdk.training.Trainer`.
        refiner: prepared, see `Refiner.prepare`.
        dataset: pictures of one size, ten or more; labels are not used.
        ladder: qualities to draw from.
        steps: of the regression.
        batch_size: pictures per step.
        learning_rate: peak of AdamW's; a cosine to zero.
        clip_norm: gradients are scaled down to this norm.
        seed: of the qualities and the order.
        observer: called with every event.

    Raises:
        OptionError: there are fewer than ten pictures, or they differ in size, or a number is not positive.
        NonFiniteError: the loss became NaN or infinite.
        PrecompError: as `Refiner.refine` raises it.

    Source: amortized optimization; the targets are `Refiner`'s.
    """
    samples, _ = load_samples(dataset, range(len(dataset)))
    images = [sample.image for sample in samples]
    sizes = {tuple(image.shape) for image in images}
    if len(images) < _HELD_OUT or len(sizes) != 1 or min(steps, batch_size, learning_rate, clip_norm) <= 0:
        raise OptionError(
            where="amortize",
            expected=f"{_HELD_OUT} pictures or more of one size, and numbers above 0",
            got=f"{len(images)} pictures of {len(sizes)} sizes; steps {steps}, batch_size {batch_size}, "
            f"learning_rate {learning_rate}, clip_norm {clip_norm}",
            remedy="Crop the pictures: an option of most data sets.",
        )
    notify = observer or (lambda _: None)
    draw = random.Random(seed)
    qualities = [draw.choice(list(ladder)) for _ in images]
    started = time.perf_counter()
    refined = [picture.image for picture in refiner.refine(images, qualities).pictures]
    refining_seconds = time.perf_counter() - started
    scale = refiner.codec.quality_scale
    strengths = torch.tensor([scale.strength(quality) for quality in qualities])
    anchor = next(preprocessor.parameters())

    def pairs(rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        batch = (to_float(torch.stack([group[row] for row in rows])) for group in (images, refined))
        sources, targets = (part.to(anchor.device) for part in batch)
        return sources, targets, strengths[list(rows)].to(anchor.device)

    def unexplained(rows: Sequence[int]) -> Tensor:
        sources, targets, given = pairs(rows)
        missed = (preprocessor(sources, given) - targets).square().mean()
        result: Tensor = missed / (targets - sources).square().mean().clamp_min(1e-12)
        return result

    rows = list(range(len(images)))
    draw.shuffle(rows)
    held, learnt = rows[: len(rows) // _HELD_OUT], rows[len(rows) // _HELD_OUT :]
    started = time.perf_counter()
    notify(RunStarted("amortize", steps, {"pictures": len(images), "preprocessor": preprocessor.name}))
    preprocessor.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(preprocessor.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        loss = unexplained(draw.choices(learnt, k=batch_size))
        value = float(loss.detach())
        if not value < float("inf"):  # also False for NaN
            raise NonFiniteError(
                where=f"amortize, step {step}", expected="a finite loss", got=str(value), remedy="Lower learning_rate."
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(preprocessor.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        notify(StepDone("amortize", step, steps, {"unexplained": value}))
    preprocessor.eval()
    with torch.no_grad():
        explained = [
            1.0 - sum(float(unexplained(part)) * len(part) for part in _parts(group, batch_size)) / len(group)
            for group in (learnt, held)
        ]
    seconds = time.perf_counter() - started
    notify(RunFinished("amortize", seconds))
    return AmortizationResult(explained[0], explained[1], len(images), refining_seconds, seconds)


def _parts(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
