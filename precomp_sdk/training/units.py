"""What the anchor costs each member of an ensemble: the units in which their losses are added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from precomp_sdk.channel import Channel
from precomp_sdk.data import TaskDataset
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import CalibrationError
from precomp_sdk.images import stack_images
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.grouping import samples_by_size
from precomp_sdk.training.loading import load_all
from precomp_sdk.training.objective import layer_distances
from precomp_sdk.transcode import Transcoder

__all__ = ["AnchorUnits", "anchor_units"]


@dataclass(frozen=True, slots=True)
class AnchorUnits:
    """What the anchor costs the members of an ensemble, averaged over images and qualities.

    Args:
        losses: by member.
        layers: by member, the feature distance of each of its layers; empty where features are not matched.
    """

    losses: dict[str, float]
    layers: dict[str, tuple[float, ...]]


@torch.no_grad()
def anchor_units(
    transcoder: Transcoder,
    task: EnsembleTask,
    dataset: TaskDataset,
    ladder: Sequence[float],
    *,
    targets: Literal["dataset", "pseudo-labels"] = "pseudo-labels",
    features: bool = False,
    batch_size: int = 16,
    skip_unreadable: bool = False,
    device: torch.device | None = None,
) -> AnchorUnits:
    """Measure the units of `EnsembleTask.set_units`.

    Args:
        transcoder: the codec.
        task: the ensemble, in evaluation mode.
        dataset: the calibration images, all of them are used.
        ladder: the qualities.
        targets: as in `TrainSettings`.
        features: measure the layers' feature distances too.
        batch_size: images per batch.
        skip_unreadable: as in `TrainSettings`.
        device: where the members are.

    Raises:
        CalibrationError: the anchor costs a member or a layer nothing, or no finite number.
    """
    channel, losses = Channel(transcoder), dict.fromkeys(task.tasks, 0.0)
    layers = {name: torch.zeros(()) for name in task.tasks}
    samples, _ = load_all(dataset, "calibration images", skip_unreadable=skip_unreadable)
    count = len(samples) * len(ladder)
    for group in samples_by_size(samples, batch_size):
        images = stack_images([sample.image for sample in group]).to(device)
        wanted = targets_for(task, group, images, targets)
        clean = task.member_features(images) if features else {}
        for sent in [channel.submit(images, [quality] * len(group)) for quality in ladder]:
            received = sent.tensors()[0]
            for name, values in task.member_losses(received, wanted).items():
                losses[name] += float(values.sum()) / count
            for name, own in clean.items():
                found = layer_distances(task.tasks[name].features(received), own).sum(dim=1)
                layers[name] = layers[name] + found.double().cpu() / count
    units = AnchorUnits(losses, {name: tuple(layers[name].tolist()) for name in task.tasks} if features else {})
    for name, unit in losses.items():
        least = min((unit, *units.layers.get(name, ())))
        if not 0.0 < least < np.inf:
            raise CalibrationError(
                where=f"anchor_units, member {name!r}",
                expected="losses and feature distances that the codec raises above 0",
                got=f"{least:g} on average over the ladder",
                remedy="Leave the member or the layer out, or take a ladder that hurts it.",
            )
    return units
