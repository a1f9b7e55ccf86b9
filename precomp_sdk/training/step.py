"""One composite step: values from the real codec, gradients from its proxy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from precomp_sdk.channel import Channel
from precomp_sdk.images import group_by_size, stack_padded
from precomp_sdk.modules import to_device
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.gradients import require_gradient
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.objective import Calibration, ObjectiveTerms, feature_distances
from precomp_sdk.training.proxy_fitting import fitting_loss
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transmission import Transmission
from precomp_sdk.types import ProxyOutput, Sample

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes a second to import, and a sender does not train

__all__ = ["StepTerms", "training_step"]

_MEANS: Final = {
    "bpp": "bpps",
    "task_loss": "task_losses",
    "feature_loss": "feature_losses",
    "clean_loss": "clean_losses",
    "change_mse": "mses",
}  # what is logged, and the term it is the mean of


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
    def merge(batches: Sequence["StepTerms"]) -> dict[str, float]:
        """Average the scalars of several batches, weighted by their images."""
        total = sum(batch.count for batch in batches)
        names = batches[0].scalars
        return {name: sum(batch.scalars[name] * batch.count for batch in batches) / total for name in names}


def training_step(
    samples: Sequence[Sample],
    qualities: Sequence[float],
    *,
    channel: Channel,
    task: TaskModel,
    calibration: Calibration,
    settings: TrainSettings,
    fabric: "Fabric",
    guard: NaNGuard,
) -> StepTerms:
    """Run one batch of images forward.

    Images of unequal sizes go through the preprocessor as one padded batch (see `stack_padded`) and are cut to their
    own sizes behind it; from there on they go down the `Channel` size by size:

        images ─▶ padded batch ─▶ preprocessor ─▶ cut ─▶ per size: code, receive ─▶ task, terms ─▶ objective per image

    The real codec works in threads while the proxy and the clean pass of the task network run.

    Args:
        samples: the images.
        qualities: one per image.
        channel: the codec, its proxy, and the preprocessor that learns.
        task: the downstream network.
        calibration: the objective.
        settings: of the run.
        fabric: for device and precision.
        guard: names the step where the preprocessor's images are not finite.

    Raises:
        NonFiniteError: they are not.
        ContractError: what learns has no gradient to learn from, because of the task, the proxy or itself.
    """
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    sources = [sample.image for sample in samples]
    padded = to_device(stack_padded(sources), fabric.device).contiguous(memory_format=layout)
    with fabric.autocast():
        processed = channel.preprocess(padded, qualities).float()
    guard.check("processed image", processed)
    groups: list[_SizeGroup] = []
    for places in group_by_size(sources):
        height, width = sources[places[0]].shape[-2:]
        whole = len(places) == len(samples)
        clean, cut = (
            images if whole else images[places, :, :height, :width].contiguous(memory_format=layout)
            for images in (padded, processed)
        )
        sent = channel.submit(cut, [qualities[place] for place in places], forward=settings.forward)
        groups.append(_SizeGroup(places, [samples[place] for place in places], clean, cut, sent))
    measured = [_measure(group, channel=channel, task=task, settings=settings, fabric=fabric) for group in groups]
    order = torch.tensor([place for group in groups for place in group.places], device=padded.device).argsort()
    terms = ObjectiveTerms(*torch.cat(measured, dim=1)[:, order])  # (5, N)
    loss = calibration.objectives(qualities, terms).mean()
    means = (loss, *(getattr(terms, name).mean() for name in _MEANS.values()))
    values = torch.stack([value.detach() for value in means]).tolist()  # one wait for the GPU
    scalars = dict(zip(("objective", *_MEANS), values, strict=True))
    if "proxy" in settings.train:
        proxy_loss = _proxy_loss(channel, groups) / len(samples)
        loss = loss + settings.proxy_weight * proxy_loss
        scalars["proxy_loss"] = float(proxy_loss.detach())
    return StepTerms(loss, scalars, len(samples))


@dataclass(frozen=True, slots=True)
class _SizeGroup:
    """The images of one size within a batch: clean and processed (N, 3, H, W), and on their way."""

    places: list[int]
    samples: list[Sample]
    clean: Tensor
    processed: Tensor
    sent: Transmission


def _measure(
    group: _SizeGroup, *, channel: Channel, task: TaskModel, settings: TrainSettings, fabric: "Fabric"
) -> Tensor:
    """Return the terms of each image, (5, N), in the order of `ObjectiveTerms`."""
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    with torch.no_grad(), fabric.autocast():
        targets = targets_for(task, group.samples, group.clean, settings.targets)
        clean_features = task.features(group.clean) if settings.feature_weight else []
    received, bits = group.sent.tensors()
    received = received.contiguous(memory_format=layout)
    keys = [sample.key for sample in group.samples]
    with fabric.autocast():
        task_losses = torch.zeros_like(bits)
        if settings.task_weight:
            task_losses = task.losses(received, targets, keys=keys).float()
        feature_losses = torch.zeros_like(task_losses)
        if settings.feature_weight:
            feature_losses = feature_distances(task.features(received), clean_features, task.feature_weights()).float()
        clean_losses = torch.zeros_like(task_losses)
        if settings.clean_weight:
            uncoded = group.sent.uncoded().contiguous(memory_format=layout)
            clean_losses = task.losses(uncoded, targets, keys=keys).float()
    if "preprocessor" in settings.train:
        _check_sender(channel, group.processed, received, bits)
    for weight, name, losses in (
        (settings.task_weight, "loss", task_losses),
        (settings.feature_weight, "features", feature_losses),
    ):
        if weight and {"preprocessor", "task"} & set(settings.train):
            source = received if "preprocessor" in settings.train else None
            told = f"a task {name} with a gradient to the {'weights' if source is None else 'image'}"
            require_gradient(losses, source, f"training step, task {task.name!r}", told)
    bpps = bits / (group.clean.shape[-2] * group.clean.shape[-1])
    mses = (group.processed - group.clean).square().mean(dim=(1, 2, 3))
    return torch.stack([bpps, task_losses, feature_losses, clean_losses, mses])


def _check_sender(channel: Channel, processed: Tensor, received: Tensor, bits: Tensor) -> None:
    """Refuse a preprocessor or a proxy without a gradient."""
    assert channel.preprocessor is not None
    assert channel.proxy is not None
    where = f"training step, preprocessor {channel.preprocessor.name!r}"
    require_gradient(processed, None, where, "images with a gradient to the weights")
    for name, value in (("decoded images", received), ("bits", bits)):
        where = f"training step, proxy {channel.proxy.name!r}"
        require_gradient(value, processed, where, f"{name} with a gradient to the image")


def _proxy_loss(channel: Channel, groups: Sequence[_SizeGroup]) -> Tensor:
    """Return the sum over images of how far the proxy is from the codec on what was sent; no gradient to the sender."""
    losses = []
    for coded in (batch for group in groups for batch in group.sent.coded):
        assert channel.proxy is not None
        output: ProxyOutput = channel.proxy(coded.to_proxy().detach(), coded.qualities)
        losses.append(fitting_loss(output, *coded.decoded()) * len(coded.places))
    return torch.stack(losses).sum()
