"""Fitting a proxy to its codec from unlabelled images."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import NonFiniteError, OptionError
from precomp_sdk.events import Event, RunFinished, RunStarted, StepDone
from precomp_sdk.images import stack_images
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.training.grouping import group_by_size
from precomp_sdk.training.loading import Batches
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import ProxyOutput
from precomp_sdk.validation import check_instance

__all__ = ["FitProxyResult", "fit_proxy", "fitting_loss"]

_BITS_WEIGHT = 2.0  # 10% of the bits count as much as 2 dB of the image
_IMAGE_FLOOR = 1e-5  # mean squared error below which the image's logarithm stops paying: 50 dB


@dataclass(frozen=True, slots=True)
class FitProxyResult:
    """How well a proxy was fitted, over the last tenth of the steps.

    Args:
        psnr_db: PSNR of the proxy's image against the codec's.
        bits_error: mean absolute error of log bits, about the relative error.
        seconds: wall time.
    """

    psnr_db: float
    bits_error: float
    seconds: float


def fitting_loss(output: ProxyOutput, images: Tensor, bits: Tensor) -> Tensor:
    """Return how far a proxy is from its codec, a scalar.

    The image's term is the logarithm of the mean squared error per image, so that mild qualities, whose errors are
    small, count as much as strong ones; the rate's term is the absolute error of log bits.

    Shapes and units:
        output: of the proxy; images: (N, 3, H, W) in [0, 1] and bits: (N,), of the codec.
    """
    mses = (output.images - images).square().mean(dim=(1, 2, 3))
    image = torch.log10(mses + _IMAGE_FLOOR)
    rate = (torch.log(output.bits.clamp_min(1.0)) - torch.log(bits)).abs()
    return (image + _BITS_WEIGHT * rate).mean()


def fit_proxy(
    proxy: ProxyCodec,
    dataset: TaskDataset,
    *,
    ladder: Sequence[float] | None = None,
    steps: int = 2000,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    crops: Sequence[int] | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    device: torch.device | None = None,
    observer: Callable[[Event], None] | None = None,
) -> FitProxyResult:
    """Fit a proxy's parameters to its codec on images of any kind; labels are not used.

    Args:
        proxy: trained in place, then frozen and marked as fitted.
        dataset: the images.
        ladder: qualities to draw from; None takes the codec's own.
        steps: optimizer steps.
        batch_size: images per step.
        learning_rate: of Adam, falling to zero along a cosine.
        crops: sides of square crops in pixels, one drawn for each batch. Several sizes tell what a codec pays for a
            file, whatever its size, from what it pays for pixels. None takes the images whole.
        seed: of the order, the qualities and the crops.
        skip_unreadable: leave out images that cannot be read.
        device: where to work; None: where the proxy is.
        observer: called with every event.

    Raises:
        OptionError: the proxy has no parameters to fit, ``steps`` is below 1, or a crop is.
        NonFiniteError: the loss became NaN or infinite.
    """
    check_instance(proxy, ProxyCodec, "fit_proxy, proxy")
    check_instance(dataset, TaskDataset, "fit_proxy, dataset")
    parameters = list(proxy.parameters())
    if not parameters or steps < 1:
        raise OptionError(
            where=f"fit_proxy, proxy {proxy.name!r}",
            expected="a proxy with parameters, and one step or more",
            got=f"{len(parameters)} parameters, {steps} steps",
            remedy="A proxy without parameters is ready as it is.",
        )
    if crops is not None and (not isinstance(crops, Sequence) or not crops or min(crops) < 1):
        raise OptionError(
            where="fit_proxy, option 'crops'",
            expected="sides in pixels, such as [96, 160]",
            got=repr(crops),
            remedy="Leave it out to take the images whole.",
        )
    started = time.perf_counter()
    notify = observer or (lambda _: None)
    qualities = tuple(ladder or proxy.quality_scale.ladder)
    notify(RunStarted("fit-proxy", steps, {"proxy": proxy.name, "codec": proxy.codec.name, "ladder": qualities}))
    proxy.to(device).train().requires_grad_(True)
    proxy.mark_fitted()
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    where = parameters[0].device
    history: list[tuple[float, float]] = []
    with (
        Transcoder(proxy.codec) as transcoder,
        Batches(dataset, batch_size=batch_size, seed=seed, skip_unreadable=skip_unreadable) as batches,
    ):
        for step, samples in enumerate(islice(batches, steps), start=1):
            draw = random.Random(f"{seed}/{step}")
            if crops is not None:
                side = draw.choice(crops)
                samples = [replace(sample, image=_cropped(sample.image, side, draw)) for sample in samples]
            for group in group_by_size(samples, len(samples)):
                values = [draw.choice(qualities) for _ in group]
                source = stack_images([sample.image for sample in group]).to(where)
                pending = transcoder.submit([sample.image for sample in group], values)
                output = proxy(source, values)
                images, bits = pending.tensors(source)
                loss = fitting_loss(output, images, bits)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise NonFiniteError(
                        where=f"fit_proxy, step {step}",
                        expected="a finite loss",
                        got=str(value),
                        remedy="Lower the learning rate.",
                    )
                torch.autograd.backward(loss * (len(group) / len(samples)))
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            with torch.no_grad():
                psnr_db = float(-10.0 * torch.log10((output.images - images).square().mean() + 1e-10))
                bits_error = float((torch.log(output.bits.clamp_min(1.0)) - torch.log(bits)).abs().mean())
            history.append((psnr_db, bits_error))
            notify(StepDone("fit-proxy", step, steps, {"loss": value, "psnr_db": psnr_db, "bits_error": bits_error}))
    proxy.eval().requires_grad_(False)
    seconds = time.perf_counter() - started
    notify(RunFinished("fit-proxy", seconds))
    tail = torch.tensor(history[-max(1, steps // 10) :]).mean(dim=0).tolist()
    return FitProxyResult(psnr_db=tail[0], bits_error=tail[1], seconds=seconds)


def _cropped(image: Tensor, side: int, draw: random.Random) -> Tensor:
    """Return a square of (C, H, W) at a random place; a side that is shorter stays as it is."""
    height, width = image.shape[1:]
    rows, columns = min(side, height), min(side, width)
    top, left = draw.randrange(height - rows + 1), draw.randrange(width - columns + 1)
    return image[:, top : top + rows, left : left + columns]
