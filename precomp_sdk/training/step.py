"""One composite step: values from the real codec, gradients from its proxy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_sdk.images import enlarge, round_to_8_bit, shrink, stack_padded
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.records import ProxyOutput, Sample
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.finite import FiniteGuard
from precomp_sdk.training.fit_proxy import fitting_loss
from precomp_sdk.training.grouping import places_by_size
from precomp_sdk.training.objective import Calibration, composite_bits, composite_images, feature_distances
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import PendingBatch, Transcoder

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
    guard: FiniteGuard,
) -> StepTerms:
    """Run one batch of pictures forward.

    Pictures of unequal sizes go through the preprocessor as one padded batch and are cut to their own sizes behind it.
    Each is coded at the resolution that the preprocessor asks for at its strength, and enlarged again for the task:

        pictures ─▶ padded batch ─▶ preprocessor ─▶ cut ─▶ per size and resolution: ─▶ objective per picture
                                                           shrink, codec and proxy, enlarge, task, terms

    The real codec works in threads while the proxy and the clean pass of the task network run.

    Args:
        samples: the pictures.
        qualities: one per picture.
        preprocessor: what learns.
        proxy: the codec's stand-in.
        task: the downstream network.
        transcoder: the real codec.
        calibration: the objective.
        settings: of the run.
        fabric: for device and precision.
        guard: names the step where the preprocessor's pictures are not finite.

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
    guard.check("processed picture", processed)
    parts: list[_Part] = []
    factors = [preprocessor.resolution(strength) for strength in strengths]
    for (height, width, factor), places in _places(sources, factors).items():
        whole = len(places) == len(samples)
        clean, cut = (
            images if whole else images[places, :, :height, :width].contiguous(memory_format=layout)
            for images in (padded, processed)
        )
        chosen, sent = [qualities[place] for place in places], shrink(cut, factor)
        real = transcoder.submit(sent, chosen) if settings.forward == "codec" else None
        parts.append(_Part(places, [samples[place] for place in places], chosen, clean, cut, sent, real))
    terms = [_measure(part, proxy=proxy, task=task, settings=settings, fabric=fabric) for part in parts]
    order = torch.tensor([place for part in parts for place in part.places], device=padded.device).argsort()
    bpps, task_losses, feature_losses, mses = torch.cat(terms, dim=1)[:, order]  # (4, N)
    objectives = calibration.objectives(qualities, bpps, task_losses, feature_losses, mses)
    loss = objectives.mean()
    scalars = {
        "objective": float(loss.detach()),
        "bpp": float(bpps.mean().detach()),
        "task_loss": float(task_losses.mean().detach()),
        "feature_loss": float(feature_losses.mean().detach()),
        "change_mse": float(mses.mean().detach()),
    }
    if "proxy" in settings.train:
        proxy_losses = [_proxy_loss(proxy, part, transcoder) * (len(part.places) / len(samples)) for part in parts]
        proxy_loss = torch.stack(proxy_losses).sum()
        loss = loss + settings.proxy_weight * proxy_loss
        scalars["proxy_loss"] = float(proxy_loss.detach())
    return StepTerms(loss, scalars, len(samples))


def _places(sources: Sequence[Tensor], factors: Sequence[float]) -> dict[tuple[int, int, float], list[int]]:
    """Return the places of the pictures (3, H, W) of each height, width and resolution."""
    found: dict[tuple[int, int, float], list[int]] = {}
    for (height, width), places in places_by_size(sources).items():
        for place in places:
            found.setdefault((height, width, factors[place]), []).append(place)
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """The pictures of one size and resolution within a batch, and on their way through the codec.

    ``clean`` and ``processed`` are (N, 3, H, W), ``sent`` is ``processed`` as it is coded, (N, 3, H', W').
    """

    places: list[int]
    samples: list[Sample]
    qualities: list[float]
    clean: Tensor
    processed: Tensor
    sent: Tensor
    real: PendingBatch | None


def _measure(part: _Part, *, proxy: ProxyCodec, task: TaskModel, settings: TrainSettings, fabric: Fabric) -> Tensor:
    """Return bits per pixel, task loss, feature distance and change of each picture, (4, N)."""
    predicted: ProxyOutput = proxy(round_to_8_bit(part.sent), part.qualities)
    with torch.no_grad(), fabric.autocast():
        targets = targets_for(task, part.samples, part.clean, settings.targets)
        clean_features = task.features(part.clean) if settings.feature_weight else []
    images, bits = predicted.images, predicted.bits
    if part.real is not None:
        real_images, real_bits = part.real.tensors(part.sent)
        images, bits = composite_images(real_images, images), composite_bits(real_bits, bits)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    images = enlarge(images, (part.clean.shape[-2], part.clean.shape[-1])).contiguous(memory_format=layout)
    with fabric.autocast():
        task_losses = task.losses(images, targets).float() if settings.task_weight else bits.new_zeros(len(bits))
        feature_losses = torch.zeros_like(task_losses)
        if settings.feature_weight:
            feature_losses = feature_distances(task.features(images), clean_features).float()
    bpps = bits / (part.clean.shape[-2] * part.clean.shape[-1])
    mses = (part.processed - part.clean).square().mean(dim=(1, 2, 3))
    return torch.stack([bpps, task_losses, feature_losses, mses])


def _proxy_loss(proxy: ProxyCodec, part: _Part, transcoder: Transcoder) -> Tensor:
    """Fit the proxy to the codec on the preprocessor's own output; no gradient to the preprocessor."""
    source = round_to_8_bit(part.sent.detach())
    pending = part.real or transcoder.submit(source, part.qualities)
    images, bits = pending.tensors(source)
    output: ProxyOutput = proxy(source, part.qualities)
    return fitting_loss(output, images, bits)
