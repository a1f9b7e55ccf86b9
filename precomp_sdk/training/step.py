"""One composite step: values from the real codec, gradients from its proxy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_sdk.images import round_to_8_bit, stack_images
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.records import ProxyOutput, Sample
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.fit_proxy import fitting_loss
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
) -> StepTerms:
    """Run one batch of equally sized pictures forward.

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
    """
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    clean = stack_images([sample.image for sample in samples]).to(fabric.device).contiguous(memory_format=layout)
    scale = transcoder.codec.quality_scale
    strengths = torch.tensor([scale.strength(quality) for quality in qualities], device=clean.device)
    with fabric.autocast():
        processed = preprocessor(clean, strengths).float()
    real = transcoder.submit(processed, list(qualities)) if settings.forward == "codec" else None
    predicted: ProxyOutput = proxy(round_to_8_bit(processed), qualities)
    with torch.no_grad(), fabric.autocast():
        targets = targets_for(task, samples, clean, settings.targets)
        clean_features = task.features(clean) if settings.feature_weight else []
    images, bits = predicted.images, predicted.bits
    if real is not None:
        real_images, real_bits = real.tensors(clean)
        images, bits = composite_images(real_images, images), composite_bits(real_bits, bits)
    images = images.contiguous(memory_format=layout)
    with fabric.autocast():
        task_losses = task.losses(images, targets).float() if settings.task_weight else bits.new_zeros(len(bits))
        feature_losses = torch.zeros_like(task_losses)
        if settings.feature_weight:
            feature_losses = feature_distances(task.features(images), clean_features).float()
    bpps = bits / (clean.shape[-2] * clean.shape[-1])
    mses = (processed - clean).square().mean(dim=(1, 2, 3))
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
        proxy_loss = _proxy_loss(proxy, processed, qualities, real, transcoder)
        loss = loss + settings.proxy_weight * proxy_loss
        scalars["proxy_loss"] = float(proxy_loss.detach())
    return StepTerms(loss, scalars, len(samples))


def _proxy_loss(
    proxy: ProxyCodec,
    processed: Tensor,
    qualities: Sequence[float],
    real: PendingBatch | None,
    transcoder: Transcoder,
) -> Tensor:
    """Fit the proxy to the codec on the preprocessor's own output; no gradient to the preprocessor."""
    source = round_to_8_bit(processed.detach())
    pending = real or transcoder.submit(source, list(qualities))
    images, bits = pending.tensors(source)
    output: ProxyOutput = proxy(source, qualities)
    return fitting_loss(output, images, bits)
