"""The objective itself, measured with the real codec on a fixed batch that is never trained on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from precomp_sdk.images import enlarge, round_to_8_bit, shrink, stack_images
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.records import Sample
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.finite import FiniteGuard
from precomp_sdk.training.grouping import group_by_size
from precomp_sdk.training.objective import Calibration, ObjectiveTerms, feature_distances
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import Transcoder

__all__ = ["HeldOutBatch"]


class HeldOutBatch:
    """Measures ``bpp + lambda * distortion`` relative to the untouched codec's on the same pictures: 1.0 is no gain.

    The plain codec's value is measured once, at construction, with the task as it then is.

    Args:
        samples: the fixed pictures.
        transcoder: the real codec.
        task: the downstream network.
        calibration: lambda and the weights of the distortion.
        settings: of the run (targets, batch size, weights).
        device: where the networks are.
        plain: the plain codec's value by quality, of an interrupted run whose task has learnt since; None measures it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transcoder: Transcoder,
        task: TaskModel,
        calibration: Calibration,
        settings: TrainSettings,
        device: torch.device,
        plain: Mapping[float, float] | None = None,
    ) -> None:
        self._groups = group_by_size(samples, settings.batch_size)
        self._transcoder = transcoder
        self._task = task
        self._calibration = calibration
        self._settings = settings
        self._device = device
        start = FiniteGuard("held-out pictures")
        measured = plain or {quality: self._objective(None, quality, start) for quality in calibration.ladder}
        self.plain = dict(measured)  #: the plain codec's value by quality, summed over the pictures

    def relative(self, preprocessor: Preprocessor, guard: FiniteGuard) -> dict[float, float]:
        """Return the preprocessor's objective over the plain codec's, by quality.

        Raises:
            NonFiniteError: the preprocessor's pictures are not finite; ``guard`` says where.
        """
        with _evaluating(preprocessor):
            return {
                quality: self._objective(preprocessor, quality, guard) / plain for quality, plain in self.plain.items()
            }

    @torch.no_grad()
    def _objective(self, preprocessor: Preprocessor | None, quality: float, guard: FiniteGuard) -> float:
        with _evaluating(self._task):
            return sum(self._of_group(group, preprocessor, quality, guard) for group in self._groups)

    def _of_group(
        self, group: Sequence[Sample], preprocessor: Preprocessor | None, quality: float, guard: FiniteGuard
    ) -> float:
        clean = stack_images([sample.image for sample in group]).to(self._device)
        strength = self._transcoder.codec.quality_scale.strength(quality)
        processed = clean if preprocessor is None else preprocessor(clean, strength)
        guard.check("processed picture", processed)
        sent = shrink(processed, 1.0 if preprocessor is None else preprocessor.resolution(strength))
        pending = self._transcoder.submit(sent, [quality] * len(group))
        targets = targets_for(self._task, group, clean, self._settings.targets)
        decoded, bits = pending.tensors(clean)
        decoded = enlarge(decoded, (clean.shape[-2], clean.shape[-1]))
        task_losses = self._task.losses(decoded, targets)
        feature_losses = torch.zeros_like(task_losses)
        if self._settings.feature_weight:
            feature_losses = feature_distances(self._task.features(decoded), self._task.features(clean))
        clean_losses = torch.zeros_like(task_losses)
        if self._settings.clean_weight:
            uncoded = enlarge(round_to_8_bit(sent), (clean.shape[-2], clean.shape[-1]))
            clean_losses = self._task.losses(uncoded, targets)
        bpps = bits / (clean.shape[-2] * clean.shape[-1])
        mses = (processed - clean).square().mean(dim=(1, 2, 3))
        terms = ObjectiveTerms(bpps, task_losses, feature_losses, clean_losses, mses)
        return float(self._calibration.objectives([quality] * len(group), terms).sum())


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while."""
    mode = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(mode)
