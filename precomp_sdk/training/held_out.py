"""The objective itself, measured with the real codec on a fixed batch that is never trained on."""

from collections.abc import Mapping, Sequence

import torch

from precomp_sdk.channel import Channel
from precomp_sdk.images import stack_images
from precomp_sdk.modules import evaluation_mode
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.grouping import samples_by_size
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.objective import Calibration, ObjectiveTerms, feature_distances
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import Sample

__all__ = ["HeldOutBatch"]


class HeldOutBatch:
    """Measures ``bpp + lambda * distortion`` relative to the untouched codec's on the same images: 1.0 is no gain.

    The anchor's value is measured once, at construction, with the task as it then is.

    Args:
        samples: the fixed images.
        transcoder: the real codec.
        task: the downstream network.
        calibration: lambda and the weights of the distortion.
        settings: of the run (targets, batch size, weights).
        device: where the networks are.
        anchor: the anchor's value by quality, of an interrupted run whose task has learnt since; None measures it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transcoder: Transcoder,
        task: TaskModel,
        calibration: Calibration,
        settings: TrainSettings,
        device: torch.device,
        anchor: Mapping[float, float] | None = None,
    ) -> None:
        self._groups = samples_by_size(samples, settings.batch_size)
        self._transcoder = transcoder
        self._task = task
        self._calibration = calibration
        self._settings = settings
        self._device = device
        start = NaNGuard("held-out images")
        measured = anchor or {quality: self._objective(None, quality, start) for quality in calibration.ladder}
        self.anchor: dict[float, float] = dict(measured)  #: the anchor's value by quality, summed over the images

    def relative(self, preprocessor: Preprocessor, guard: NaNGuard) -> dict[float, float]:
        """Return the preprocessor's objective over the anchor's, by quality.

        Raises:
            NonFiniteError: the preprocessor's images are not finite; ``guard`` says where.
        """
        with evaluation_mode(preprocessor):
            return {
                quality: self._objective(preprocessor, quality, guard) / anchor
                for quality, anchor in self.anchor.items()
            }

    @torch.no_grad()
    def _objective(self, preprocessor: Preprocessor | None, quality: float, guard: NaNGuard) -> float:
        with evaluation_mode(self._task):
            return sum(self._of_group(group, preprocessor, quality, guard) for group in self._groups)

    def _of_group(
        self, group: Sequence[Sample], preprocessor: Preprocessor | None, quality: float, guard: NaNGuard
    ) -> float:
        clean = stack_images([sample.image for sample in group]).to(self._device)
        channel, qualities = Channel(self._transcoder, preprocessor), [quality] * len(group)
        processed = channel.preprocess(clean, qualities)
        guard.check("processed image", processed)
        sent = channel.submit(processed, qualities)
        targets = targets_for(self._task, group, clean, self._settings.targets)
        received, bits = sent.tensors()
        keys = [sample.key for sample in group]
        task_losses = self._task.losses(received, targets, keys=keys)
        feature_losses = torch.zeros_like(task_losses)
        if self._settings.feature_weight:
            features = self._task.features(received), self._task.features(clean)
            feature_losses = feature_distances(*features, self._task.feature_weights())
        clean_losses = torch.zeros_like(task_losses)
        if self._settings.clean_weight:
            clean_losses = self._task.losses(sent.uncoded(), targets, keys=keys)
        bpps = bits / (clean.shape[-2] * clean.shape[-1])
        mses = (processed - clean).square().mean(dim=(1, 2, 3))
        terms = ObjectiveTerms(bpps, task_losses, feature_losses, clean_losses, mses)
        return float(self._calibration.objectives(qualities, terms).sum())
