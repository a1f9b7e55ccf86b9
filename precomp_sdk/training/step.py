"""One composite step: values from the real codec, gradients from its proxy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_sdk.images import coded_size, downscale, round_to_8_bit, stack_padded, upscale
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.grouping import places_by_size
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.objective import (
    Calibration,
    ObjectiveTerms,
    feature_distances,
)
from precomp_sdk.training.proxy_fitting import fitting_loss
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import PendingBatch, Transcoder
from precomp_sdk.transmission import straight_through_bits, straight_through_images
from precomp_sdk.types import ProxyOutput, Sample

__all__ = ["StepTerms", "training_step"]


@dataclass(frozen=True, slots=True)
class StepTerms:
    """The loss of one batch, and what it is made of.

    Args:
        loss: scalar to differentiate.
        scalars: means over the batch, by name.
        count: images in the batch.
    """

    loss: Tensor
    scalars: dict[str, float]
    count: int

    @staticmethod
    def merge(parts: Sequence["StepTerms"]) -> dict[str, float]:
        """Average the scalars of several batches, weighted by their images."""
        total = sum(part.count for part in parts)
        return {name: sum(part.scalars[name] * part.count for part in parts) / total for name in parts[0].scalars}


def training_step(
    samples: Sequence[Sample],
    qualities: Sequence[float],
    *,
    preprocessor: Preprocessor,
    proxy: ProxyCodec,
    task: TaskModel,
    transcoder: Transcoder,
    calibration: Calibration,
    settings: TrainSettings,
    fabric: Fabric,
    guard: NaNGuard,
) -> StepTerms:
    """Run one batch of images forward.

    Images of unequal sizes go through the preprocessor as one padded batch and are cut to their own sizes behind it.
    Each is coded at the resolution that the preprocessor asks for at its strength, and upscaled again for the task:

        images ─▶ padded batch ─▶ preprocessor ─▶ cut ─▶ per coded size: downscale, codec and proxy, upscale
                                                                                       │
                                      objective per image ◀─ per size: task, terms ◀─┘

    The real codec works in threads while the proxy and the clean pass of the task network run.

    Args:
        samples: the images.
        qualities: one per image.
        preprocessor: what learns.
        proxy: the codec's proxy.
        task: the downstream network.
        transcoder: the real codec.
        calibration: the objective.
        settings: of the run.
        fabric: for device and precision.
        guard: names the step where the preprocessor's images are not finite.

    Raises:
        NonFiniteError: they are not.
    """
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    sources = [sample.image for sample in samples]
    padded = stack_padded(sources).to(fabric.device).contiguous(memory_format=layout)
    scale = transcoder.codec.quality_scale
    strengths = [scale.strength(quality) for quality in qualities]
    with fabric.autocast():
        processed = preprocessor(padded, torch.tensor(strengths, device=padded.device)).float()
    guard.check("processed image", processed)
    parts: list[_Part] = []
    for (height, width), places in places_by_size(sources).items():
        whole = len(places) == len(samples)
        clean, cut = (
            images if whole else images[places, :, :height, :width].contiguous(memory_format=layout)
            for images in (padded, processed)
        )
        coded = []
        for factor, rows in _rows(preprocessor, (height, width), [strengths[place] for place in places]):
            chosen = [qualities[places[row]] for row in rows]
            sent = downscale(cut if len(rows) == len(places) else cut[rows], factor)
            real = transcoder.submit(sent, chosen) if settings.forward == "codec" else None
            coded.append(_Coded(rows, chosen, sent, real))
        parts.append(_Part(places, [samples[place] for place in places], clean, cut, coded))
    measured = [_measure(part, proxy=proxy, task=task, settings=settings, fabric=fabric) for part in parts]
    order = torch.tensor([place for part in parts for place in part.places], device=padded.device).argsort()
    terms = ObjectiveTerms(*torch.cat(measured, dim=1)[:, order])  # (5, N)
    loss = calibration.objectives(qualities, terms).mean()
    scalars = {
        "objective": float(loss.detach()),
        "bpp": float(terms.bpps.mean().detach()),
        "task_loss": float(terms.task_losses.mean().detach()),
        "feature_loss": float(terms.feature_losses.mean().detach()),
        "clean_loss": float(terms.clean_losses.mean().detach()),
        "change_mse": float(terms.mses.mean().detach()),
    }
    if "proxy" in settings.train:
        proxy_losses = [
            _proxy_loss(proxy, coded, transcoder) * (len(coded.rows) / len(samples))
            for part in parts
            for coded in part.coded
        ]
        proxy_loss = torch.stack(proxy_losses).sum()
        loss = loss + settings.proxy_weight * proxy_loss
        scalars["proxy_loss"] = float(proxy_loss.detach())
    return StepTerms(loss, scalars, len(samples))


def _rows(
    preprocessor: Preprocessor, size: tuple[int, int], strengths: Sequence[float]
) -> list[tuple[float, list[int]]]:
    """Return the rows of a batch of one size that are coded at one size, each with a factor that leads there."""
    found: dict[tuple[int, int], tuple[float, list[int]]] = {}
    for row, strength in enumerate(strengths):
        factor = preprocessor.resolution(strength)
        found.setdefault(coded_size(size, factor), (factor, []))[1].append(row)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Coded:
    """Images of a part that are coded at one size (N', 3, H', W'), on their way through the codec."""

    rows: list[int]
    qualities: list[float]
    sent: Tensor
    real: PendingBatch | None


@dataclass(frozen=True, slots=True)
class _Part:
    """The images of one size within a batch: clean and processed (N, 3, H, W), and as they are coded."""

    places: list[int]
    samples: list[Sample]
    clean: Tensor
    processed: Tensor
    coded: list[_Coded]


def _measure(part: _Part, *, proxy: ProxyCodec, task: TaskModel, settings: TrainSettings, fabric: Fabric) -> Tensor:
    """Return the terms of each image, (5, N), in the order of `ObjectiveTerms`."""
    size = (part.clean.shape[-2], part.clean.shape[-1])
    sent = [round_to_8_bit(coded.sent) for coded in part.coded]
    predicted: list[ProxyOutput] = [
        proxy(images, coded.qualities) for images, coded in zip(sent, part.coded, strict=True)
    ]
    with torch.no_grad(), fabric.autocast():
        targets = targets_for(task, part.samples, part.clean, settings.targets)
        clean_features = task.features(part.clean) if settings.feature_weight else []
    received = [_received(coded, output, size) for coded, output in zip(part.coded, predicted, strict=True)]
    order = torch.tensor([row for coded in part.coded for row in coded.rows], device=part.clean.device).argsort()
    images, bits = (torch.cat(items)[order] if len(items) > 1 else items[0] for items in zip(*received, strict=True))
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    with fabric.autocast():
        task_losses = task.losses(images, targets).float() if settings.task_weight else bits.new_zeros(len(bits))
        feature_losses = torch.zeros_like(task_losses)
        if settings.feature_weight:
            feature_losses = feature_distances(task.features(images), clean_features).float()
        clean_losses = torch.zeros_like(task_losses)
        if settings.clean_weight:
            uncoded = torch.cat([upscale(images, size) for images in sent])[order]
            clean_losses = task.losses(uncoded.contiguous(memory_format=layout), targets).float()
    bpps = bits / (size[0] * size[1])
    mses = (part.processed - part.clean).square().mean(dim=(1, 2, 3))
    return torch.stack([bpps, task_losses, feature_losses, clean_losses, mses])


def _received(coded: _Coded, predicted: ProxyOutput, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the images at their sources' size (H, W) and their bits: the codec's values, the proxy's gradient."""
    images, bits = predicted.images, predicted.bits
    if coded.real is not None:
        real_images, real_bits = coded.real.tensors(coded.sent)
        images, bits = straight_through_images(real_images, images), straight_through_bits(real_bits, bits)
    return upscale(images, size), bits


def _proxy_loss(proxy: ProxyCodec, coded: _Coded, transcoder: Transcoder) -> Tensor:
    """Fit the proxy to the codec on the preprocessor's own output; no gradient to the preprocessor."""
    source = round_to_8_bit(coded.sent.detach())
    pending = coded.real or transcoder.submit(source, coded.qualities)
    images, bits = pending.tensors(source)
    output: ProxyOutput = proxy(source, coded.qualities)
    return fitting_loss(output, images, bits)
