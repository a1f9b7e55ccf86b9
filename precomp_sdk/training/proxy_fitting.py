"""Fitting a proxy to its codec from unlabelled images."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn

from precomp_sdk.data import SkippedSample, TaskDataset
from precomp_sdk.errors import NonFiniteError, OptionError
from precomp_sdk.events import Notice, RunFinished, RunStarted, StepDone
from precomp_sdk.images import group_by_size, stack_images
from precomp_sdk.modules import device_of
from precomp_sdk.observers import Listener, listening
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.training.loading import Batches, left_out
from precomp_sdk.training.settings import FitProxySettings
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import ProxyOutput
from precomp_sdk.validation import check_instance

__all__ = ["FitProxyResult", "fit_proxy", "fitting_loss"]

_STAGE = "fit-proxy"
_BITS_WEIGHT = 2.0  # 10% of the bits count as much as 2 dB of the image
_DOUBTFUL_BITS_ERROR = 0.25  # the shipped proxies are off by 2 to 6%
_DOUBTFUL_PSNR_DB = 25.0
_IMAGE_FLOOR = 1e-5  # mean squared error below which the image's logarithm stops paying: 50 dB


@dataclass(frozen=True, slots=True)
class FitProxyResult:
    """How well a proxy was fitted, over the last tenth of the steps.

    Args:
        psnr_db: PSNR of the proxy's image against the codec's.
        bits_error: mean absolute error of log bits, about the relative error.
        seconds: wall time.
        skipped: images that could not be read.

    Attributes:
        doubt: why the proxy is no good yet, in words; empty where it is. Training behind such a proxy goes astray.
    """

    psnr_db: float
    bits_error: float
    seconds: float
    skipped: tuple[SkippedSample, ...] = ()
    doubt: str = field(init=False)

    def __post_init__(self) -> None:
        found = []
        if not self.bits_error <= _DOUBTFUL_BITS_ERROR:  # also for NaN
            found.append(f"its bits are off by {self.bits_error:.0%}, above {_DOUBTFUL_BITS_ERROR:.0%}")
        if not self.psnr_db >= _DOUBTFUL_PSNR_DB:
            found.append(f"its images are {self.psnr_db:.1f} dB from the codec's, below {_DOUBTFUL_PSNR_DB:.0f} dB")
        doubt = f"a poor fit: {'; '.join(found)}. Take more steps, or more images" if found else ""
        object.__setattr__(self, "doubt", doubt)


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
    settings: FitProxySettings | None = None,
    observer: Listener = "auto",
) -> FitProxyResult:
    """Fit a proxy's parameters to its codec on images of any kind; labels are not used.

    Args:
        proxy: trained in place, on its device, then frozen and marked as fitted; a fit that does not come to its end
            leaves it as it was.
        dataset: the images.
        settings: every choice.
        observer: called with every event, with stage ``"fit-proxy"``; see `precomp_sdk.observers.listening`.

    Raises:
        OptionError: the proxy has no parameters to fit.
        NonFiniteError: the loss became NaN or infinite.
    """
    check_instance(proxy, ProxyCodec, "fit_proxy, proxy")
    check_instance(dataset, TaskDataset, "fit_proxy, dataset")
    parameters = list(proxy.parameters())
    if not parameters:
        raise OptionError(
            where=f"fit_proxy, proxy {proxy.name!r}",
            expected="a proxy with parameters",
            got="0 parameters",
            remedy="It is ready as it is.",
        )
    settings = settings or FitProxySettings()
    steps, crops = settings.steps, settings.crops
    started = time.perf_counter()
    qualities = proxy.quality_scale.ladder_of(settings.ladder)
    history: list[tuple[float, float]] = []
    with (
        listening(observer) as notify,
        _as_it_was_unless_done(proxy),
        Transcoder(proxy.codec) as transcoder,
        Batches(
            dataset,
            batch_size=settings.batch_size,
            seed=settings.seed,
            skip_unreadable=settings.skip_unreadable,
        ) as batches,
    ):
        notify(RunStarted(_STAGE, steps, {"proxy": proxy.name, "codec": proxy.codec.name, "ladder": qualities}))
        proxy.train().requires_grad_(True)
        proxy.mark_fitted()  # or it refuses to run
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step, samples in enumerate(islice(batches, steps), start=1):
            draw = random.Random(f"{settings.seed}/{step}")
            images = [sample.image for sample in samples]
            if crops is not None:
                side = draw.choice(crops)
                images = [_cropped(image, side, draw) for image in images]
            loss, psnr_db, bits_error = _step(proxy, transcoder, images, qualities, draw, step)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            history.append((psnr_db, bits_error))
            notify(StepDone(_STAGE, step, steps, {"loss": loss, "psnr_db": psnr_db, "bits_error": bits_error}))
        proxy.eval().requires_grad_(False)
        seconds = time.perf_counter() - started
        tail = torch.tensor(history[-max(1, steps // 10) :]).mean(dim=0).tolist()
        result = FitProxyResult(tail[0], tail[1], seconds, batches.skipped)
        if result.skipped:
            notify(left_out(_STAGE, result.skipped))
        if result.doubt:
            notify(Notice(_STAGE, f"proxy {proxy.name!r} for {proxy.codec.name!r}: {result.doubt}"))
        notify(RunFinished(_STAGE, seconds))
    return result


def _step(
    proxy: ProxyCodec,
    transcoder: Transcoder,
    images: Sequence[Tensor],
    qualities: Sequence[float],
    draw: random.Random,
    step: int,
) -> tuple[float, float, float]:
    """Add up the gradient over images of any sizes; return means over the images: loss, PSNR and error of log bits."""
    totals = torch.zeros(3)
    for places in group_by_size(images):
        group, values = [images[place] for place in places], [draw.choice(qualities) for _ in places]
        source = stack_images(group).to(device_of(proxy))
        pending = transcoder.submit(group, values)
        output = proxy(source, values)
        decoded, bits = pending.tensors(source)
        loss = fitting_loss(output, decoded, bits)
        if not bool(loss.isfinite()):
            raise NonFiniteError(
                where=f"fit_proxy, step {step}",
                expected="a finite loss",
                got=str(float(loss.detach())),
                remedy="Lower the learning rate.",
            )
        share = len(group) / len(images)
        torch.autograd.backward(loss * share)
        with torch.no_grad():
            psnr_db = -10.0 * torch.log10((output.images - decoded).square().mean() + 1e-10)
            bits_error = (torch.log(output.bits.clamp_min(1.0)) - torch.log(bits)).abs().mean()
            totals += share * torch.stack([loss, psnr_db, bits_error]).float().cpu()
    loss_value, psnr_value, error_value = totals.tolist()
    return loss_value, psnr_value, error_value


@contextmanager
def _as_it_was_unless_done(proxy: ProxyCodec) -> Iterator[None]:
    """Give a proxy its weights, device, modes and marks back where the fit does not come to its end."""
    weights = {key: value.clone() for key, value in proxy.state_dict().items()}
    modes = {part: part.training for part in proxy.modules()}
    learns = {parameter: parameter.requires_grad for parameter in proxy.parameters()}
    fitted_to, device = proxy.fitted_to, device_of(proxy)
    try:
        yield
    except BaseException:
        proxy.zero_grad()
        proxy.to(device).load_state_dict(weights)
        proxy.fitted_to = fitted_to
        for part, training in modes.items():
            part.training = training
        for parameter, learning in learns.items():
            parameter.requires_grad_(learning)
        raise


def _cropped(image: Tensor, side: int, draw: random.Random) -> Tensor:
    """Return a square of (C, H, W) at a random place; a side that is shorter stays as it is."""
    height, width = image.shape[1:]
    rows, columns = min(side, height), min(side, width)
    top, left = draw.randrange(height - rows + 1), draw.randrange(width - columns + 1)
    return image[:, top : top + rows, left : left + columns]
