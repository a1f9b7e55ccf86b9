"""Finds out, before the first step, whether there is a gradient to learn from."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from precomp_sdk.errors import ContractError
from precomp_sdk.images import stack_images
from precomp_sdk.modules import evaluation_mode
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.types import ProxyOutput, Sample

__all__ = ["check_gradients"]


def check_gradients(
    task: TaskModel, proxy: ProxyCodec, sample: Sample, quality: float, settings: TrainSettings, fabric: Fabric
) -> None:
    """Refuse a task or a proxy without the gradient that a run needs: it would learn to save bits alone, or nothing.

    Args:
        task: its loss, and its features where they are matched, must have a gradient to the image for a preprocessor
            that learns, and to its own parameters where it learns itself.
        proxy: its image and its bits must have one to the image, likewise.
        sample: one image to try it on.
        quality: of the ladder.
        settings: of the run.
        fabric: for device and precision.

    Raises:
        ContractError: one has none.
    """
    with torch.enable_grad(), evaluation_mode(task, proxy):
        image = stack_images([sample.image]).to(fabric.device).requires_grad_("preprocessor" in settings.train)
        if image.requires_grad:
            predicted: ProxyOutput = proxy(image, [quality])
            for name, value in (("decoded image", predicted.images), ("bits", predicted.bits)):
                if not _reaches(value, [image]):
                    raise _without(f"proxy {proxy.name!r}", f"{name} with a gradient to the image")
        learning = {"image": [image]} if image.requires_grad else {}
        if "task" in settings.train:
            learning["network's own parameters"] = [item for item in task.parameters() if item.requires_grad]
        with fabric.autocast():
            targets = targets_for(task, [sample], image.detach(), settings.targets)
            outcomes: dict[str, Sequence[Tensor]] = {}
            if settings.task_weight:
                outcomes["a task loss"] = [task.losses(image, targets)]
            if settings.feature_weight:
                outcomes["features"] = task.features(image)
        for outcome, values in outcomes.items():
            for what, inputs in learning.items():
                if not any(_reaches(value, inputs) for value in values):
                    raise _without(f"task {task.name!r}", f"{outcome} with a gradient to the {what}")


def _reaches(value: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Return whether the gradient of a value reaches one of its inputs."""
    if not value.requires_grad:
        return False
    found = torch.autograd.grad(value.float().sum(), list(inputs), retain_graph=True, allow_unused=True)
    return any(gradient is not None for gradient in found)


def _without(which: str, expected: str) -> ContractError:
    return ContractError(
        where=f"training, {which}",
        expected=expected,
        got="one without",
        remedy="Keep it differentiable: no torch.no_grad(), .detach(), argmax or NumPy on its way. What has no "
        "gradient, such as an ONNX Runtime network, can judge but cannot train.",
    )
