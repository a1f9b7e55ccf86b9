"""The refinement of one batch of equally sized images."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from precomp_refine._judge import Judge, Losses, Reference
from precomp_refine._lambda_table import Prices
from precomp_refine._settings import Settings
from precomp_refine._transforms import draw
from precomp_refine.records import Refined, RefinementCost, Terms
from precomp_sdk import Channel, ContractError, NonFiniteError, ProxyCodec, Target, round_to_8_bit, to_uint8

__all__ = ["BatchRefiner"]

_BETAS = (0.9, 0.999)  # of Adam
_TINY = 1e-12  # beside a gradient's root mean square; bits per pixel change by some 1e-6 per sample
_LEVELS = 255.0
_ROUNDING_MSE = 1.0 / (12.0 * _LEVELS**2)  # of rounding to 8 bits, which the bound on the PSNR leaves room for


@dataclass(slots=True)
class _Progress:
    """How far one image has come."""

    image: Tensor
    anchor: Terms | None = None
    best: Terms | None = None
    best_step: int | None = None
    steps: int = 0
    idle_checks: int = 0
    stopped: str = ""


@dataclass(slots=True)
class _Moving:
    """The images that are still refined: their places in the batch, and one row for each in everything else."""

    places: list[int]
    source: Tensor
    current: Tensor
    first: Tensor  # Adam's running mean of the gradient ...
    second: Tensor  # ... and of its square
    qualities: list[float]
    reference: Reference
    prices: Prices

    def keep(self, rows: list[int]) -> None:
        """Go on with some of the images."""
        self.places = [self.places[row] for row in rows]
        self.qualities = [self.qualities[row] for row in rows]
        self.source, self.current = self.source[rows], self.current[rows]
        self.first, self.second = self.first[rows], self.second[rows]
        self.reference, self.prices = self.reference.rows(rows), self.prices.rows(rows)


@dataclass(slots=True)
class BatchRefiner:
    """Refines one batch; see `Refiner`.

    Args:
        channel: the real codec and its proxy, on the device of the images; no preprocessor touches them.
        judge: the task networks, in evaluation mode.
        settings: how.
        generator: draws the transformations.
    """

    channel: Channel
    judge: Judge
    settings: Settings
    generator: torch.Generator
    _begin: float = 0.0
    _longest: float = 0.0
    _progress: list[_Progress] = field(default_factory=list)
    _given: bool = False  # whether the targets were given
    _factor: float = 1.0  # of height and width at which the images are coded
    _cost: RefinementCost = field(default_factory=RefinementCost)

    def run(
        self,
        source: Tensor,
        qualities: Sequence[float],
        prices: Prices,
        *,
        start: Tensor | None,
        targets: Sequence[Target] | None,
        factor: float = 1.0,
    ) -> tuple[list[Refined], RefinementCost]:
        """Refine a batch.

        Shapes and units:
            source: (N, 3, H, W) in [0, 1], of 8-bit values; start: likewise, where to begin; qualities, targets: N.
            factor: of height and width at which the images are coded.
        """
        self._begin, self._given, self._factor = time.perf_counter(), targets is not None, factor
        self._progress = [_Progress(image) for image in to_uint8(source).cpu()]
        self._cost = RefinementCost(images=len(source))
        reference = self._refer(source, targets)
        zeros = torch.zeros_like(source)
        moving = _Moving(list(range(len(source))), source, source, zeros, zeros, list(qualities), reference, prices)
        if start is not None:
            self._look(moving, None, check=True, gradient=False)
            moving.current = self._bounded(source, start)
        if self.settings.when_nothing == "untouched":
            for progress, empty in zip(self._progress, reference.empty(), strict=True):
                progress.stopped = "nothing found" if empty else ""
        self._walk(moving)
        elapsed = 1e3 * (time.perf_counter() - self._begin)
        results = [self._result(*row) for row in zip(self._progress, qualities, strict=True)]
        return results, replace(self._cost, milliseconds=elapsed)

    def _walk(self, moving: _Moving) -> None:
        """Take the steps."""
        settings = self.settings
        for step in range(settings.steps + 1):
            started = time.perf_counter()
            late = self._out_of_time()
            last = late or step == settings.steps
            gradient = self._look(moving, step, check=last or step % settings.check_every == 0, gradient=not last)
            if gradient is None:
                for place in moving.places:
                    self._progress[place].stopped = self._progress[place].stopped or ("budget" if late else "steps")
                return
            self._move(moving, gradient, step + 1)
            if not moving.places:
                return
            self._longest = max(self._longest, time.perf_counter() - started)

    def _look(self, moving: _Moving, step: int | None, *, check: bool, gradient: bool) -> Tensor | None:
        """Send the current images through the codec or its proxy and the task networks.

        Args:
            moving: the images.
            step: how many steps they are from the start; None for the untouched images before another start.
            check: use the real codec, and keep what is better than before.
            gradient: return the objective's gradient, (N, 3, H, W).
        """
        current = moving.current.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            image = round_to_8_bit(current)  # what is refined is an 8-bit image, whatever it is coded at
            forward: Literal["codec", "proxy"] = "codec" if check else "proxy"
            sent = self.channel.submit(image, moving.qualities, [self._factor] * len(image), forward=forward)
            received, bits = sent.tensors()
        self._spend(encodes=len(current) if check else 0)
        if gradient:
            self._spend(proxy_forward=len(current), proxy_backward=len(current))
        decoded = received.detach().requires_grad_(gradient)
        transformed = gradient and self.settings.transforms
        losses: Losses | None = None
        if check or not transformed:
            with torch.set_grad_enabled(gradient and not transformed):
                losses = self._judge(decoded, moving.reference, moving.prices)
        if check and losses is not None:
            self._record(moving, step, current.detach(), bits.detach(), losses)
        if not gradient:
            return None
        if transformed:
            losses = self._judge_transformed(moving, decoded)
        assert losses is not None
        return self._gradient(current, received, bits, decoded, losses.priced_bpp)

    def _judge(self, decoded: Tensor, reference: Reference, prices: Prices) -> Losses:
        self._spend(task_forward=len(decoded) * self.judge.passes)
        return self.judge.losses(decoded, reference, prices)

    def _judge_transformed(self, moving: _Moving, decoded: Tensor) -> Losses:
        """Judge decoded images after a drawn change, against what the networks say of clean images after it."""
        transform = draw(self.settings, self.generator)
        targets = moving.reference.targets[0] if self._given else None  # labels stay what they are
        reference = self._refer(transform(moving.source), targets)
        with torch.enable_grad():
            return self._judge(transform(decoded), reference, moving.prices)

    def _refer(self, clean: Tensor, targets: Sequence[Target] | None) -> Reference:
        passes = self.judge.passes if targets is None else self.judge.feature_passes
        self._spend(task_forward=len(clean) * passes)
        return self.judge.reference(clean, targets)

    def _gradient(self, current: Tensor, received: Tensor, bits: Tensor, decoded: Tensor, priced: Tensor) -> Tensor:
        """Return the objective's gradient: the task networks' at the decoded image, through the channel's proxy."""
        self._spend(task_backward=len(decoded) * self.judge.passes)
        at_decoded = None
        if priced.requires_grad:
            (at_decoded,) = torch.autograd.grad(priced, decoded, torch.ones_like(priced), allow_unused=True)
        if at_decoded is None:
            raise ContractError(
                where=f"refinement against {', '.join(repr(task.name) for task in self.judge.tasks)}",
                expected="a task loss with a gradient to the image",
                got="one without",
                remedy="Keep the loss differentiable: no .detach(), no argmax, no conversion to NumPy on its way.",
            )
        if not (received.requires_grad and bits.requires_grad):
            raise ContractError(
                where=f"refinement through proxy {self._proxy.name!r}",
                expected="decoded images and bits with a gradient to the image",
                got="some without",
                remedy="Choose a differentiable proxy.",
            )
        per_bit = torch.full_like(bits, 1.0 / (current.shape[-2] * current.shape[-1]))  # the rate is in bits per pixel
        (result,) = torch.autograd.grad((received, bits), current, (at_decoded, per_bit))
        return result

    def _move(self, moving: _Moving, gradient: Tensor, step: int) -> None:
        """Take one step of Adam inside the bounds, and let go of the images that have stopped."""
        kept = []
        finite = gradient.isfinite().flatten(1).all(dim=1).tolist()
        for row, place in enumerate(moving.places):
            progress = self._progress[place]
            if not progress.stopped and not finite[row]:
                progress.stopped = "non-finite gradient"
            if not progress.stopped and progress.idle_checks >= self.settings.patience:
                progress.stopped = "patience"
            if not progress.stopped:
                progress.steps = step
                kept.append(row)
        moving.keep(kept)
        gradient = gradient[kept]
        moving.first = _BETAS[0] * moving.first + (1.0 - _BETAS[0]) * gradient
        moving.second = _BETAS[1] * moving.second + (1.0 - _BETAS[1]) * gradient.square()
        mean, square = moving.first / (1.0 - _BETAS[0] ** step), moving.second / (1.0 - _BETAS[1] ** step)
        change = self.settings.step_levels / _LEVELS * mean / (square.sqrt() + _TINY)
        moving.current = self._bounded(moving.source, moving.current - change)

    def _bounded(self, source: Tensor, wanted: Tensor) -> Tensor:
        """Return the image nearest to ``wanted`` that is as close to the source as it has to be."""
        change = wanted - source
        if self.settings.max_change is not None:
            change = change.clamp(-self.settings.max_change / _LEVELS, self.settings.max_change / _LEVELS)
        if self.settings.min_psnr_db is not None:
            allowed = max(0.0, _mse(self.settings.min_psnr_db) - _ROUNDING_MSE)
            mses = change.square().mean(dim=(1, 2, 3), keepdim=True)
            change = change * (allowed / mses.clamp_min(_TINY)).sqrt().clamp(max=1.0)
        return (source + change).clamp(0.0, 1.0)

    def _record(self, moving: _Moving, step: int | None, current: Tensor, real_bits: Tensor, losses: Losses) -> None:
        """Keep each image that does better than all before it by the real objective."""
        rounded = round_to_8_bit(current)
        pixels = current.shape[-2] * current.shape[-1]
        mses = (rounded - moving.source).square().mean(dim=(1, 2, 3)).tolist()
        columns = (real_bits, losses.task_losses, losses.feature_distances, losses.priced_bpp.detach())
        table = torch.stack([column.double().cpu() for column in columns], dim=1).tolist()
        for row, (place, values) in enumerate(zip(moving.places, table, strict=True)):
            bits, task_loss, distance, priced = values
            terms = Terms(round(bits), bits / pixels, task_loss, distance, bits / pixels + priced)
            progress = self._progress[place]
            if progress.anchor is None or progress.best is None:
                progress.anchor = progress.best = _finite(terms, self._proxy, moving.qualities[row])
                continue
            allowed = self.settings.min_psnr_db is None or mses[row] <= _mse(self.settings.min_psnr_db)
            if allowed and terms.objective < progress.best.objective:  # False for NaN
                progress.best, progress.best_step, progress.idle_checks = terms, step, 0
                progress.image = to_uint8(rounded[row]).cpu()
            else:
                progress.idle_checks += 1

    def _result(self, progress: _Progress, quality: float) -> Refined:
        assert progress.anchor is not None  # `_look` has measured every image
        assert progress.best is not None
        return Refined(
            image=progress.image,
            quality=quality,
            anchor=progress.anchor,
            refined=progress.best,
            steps=progress.steps,
            best_step=progress.best_step,
            stopped=progress.stopped,
        )

    def _out_of_time(self) -> bool:
        if self.settings.budget_ms is None:
            return False
        spent = time.perf_counter() - self._begin + self._longest  # with another step like the longest so far
        return 1e3 * spent > self.settings.budget_ms * len(self._progress)

    @property
    def _proxy(self) -> ProxyCodec:
        assert self.channel.proxy is not None
        return self.channel.proxy

    def _spend(self, **counts: int) -> None:
        self._cost = self._cost + RefinementCost(**counts)


def _mse(psnr_db: float) -> float:
    return float(10.0 ** (-psnr_db / 10.0))


def _finite(terms: Terms, proxy: ProxyCodec, quality: float) -> Terms:
    if not math.isfinite(terms.objective):
        raise NonFiniteError(
            where=f"refinement for {proxy.codec.name!r} at {quality:g}, the untouched image",
            expected="a finite objective",
            got=f"{terms.objective} (task loss {terms.task_loss}, feature distance {terms.feature_distance})",
            remedy="Look at the weights of the task network and at the image.",
        )
    return terms
