"""The objective itself, measured with the real codec on a fixed batch that is never trained on."""

from collections.abc import Sequence

import torch

from precomp_sdk.images import stack_images
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.records import Sample
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import targets_for
from precomp_sdk.training.finite import FiniteGuard
from precomp_sdk.training.grouping import group_by_size
from precomp_sdk.training.objective import Calibration, feature_distances
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import Transcoder

__all__ = ["HeldOutBatch"]


class HeldOutBatch:
    """Measures ``bpp + lambda * distortion`` relative to the untouched codec's on the same pictures: 1.0 is no gain.

    The plain codec's value is measured once, at construction.

    Args:
        samples: the fixed pictures.
        transcoder: the real codec.
        task: the downstream network.
        calibration: lambda and the weights of the distortion.
        settings: of the run (targets, batch size, feature weight).
        device: where the networks are.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transcoder: Transcoder,
        task: TaskModel,
        calibration: Calibration,
        settings: TrainSettings,
        device: torch.device,
    ) -> None:
        self._groups = group_by_size(samples, settings.batch_size)
        self._transcoder = transcoder
        self._task = task
        self._calibration = calibration
        self._settings = settings
        self._device = device
        self._plain = {
            quality: self._objective(None, quality, FiniteGuard("held-out pictures")) for quality in calibration.ladder
        }

    def relative(self, preprocessor: Preprocessor, guard: FiniteGuard) -> dict[float, float]:
        """Return the preprocessor's objective over the plain codec's, by quality.

        Raises:
            NonFiniteError: the preprocessor's pictures are not finite; ``guard`` says where.
        """
        mode = preprocessor.training
        preprocessor.eval()
        result = {
            quality: self._objective(preprocessor, quality, guard) / plain for quality, plain in self._plain.items()
        }
        preprocessor.train(mode)
        return result

    @torch.no_grad()
    def _objective(self, preprocessor: Preprocessor | None, quality: float, guard: FiniteGuard) -> float:
        total = 0.0
        for group in self._groups:
            clean = stack_images([sample.image for sample in group]).to(self._device)
            strength = self._transcoder.codec.quality_scale.strength(quality)
            processed = clean if preprocessor is None else preprocessor(clean, strength)
            guard.check("processed picture", processed)
            pending = self._transcoder.submit(processed, [quality] * len(group))
            targets = targets_for(self._task, group, clean, self._settings.targets)
            decoded, bits = pending.tensors(clean)
            task_losses = self._task.losses(decoded, targets)
            feature_losses = torch.zeros_like(task_losses)
            if self._settings.feature_weight:
                feature_losses = feature_distances(self._task.features(decoded), self._task.features(clean))
            bpps = bits / (clean.shape[-2] * clean.shape[-1])
            mses = (processed - clean).square().mean(dim=(1, 2, 3))
            objectives = self._calibration.objectives([quality] * len(group), bpps, task_losses, feature_losses, mses)
            total += float(objectives.sum())
        return total
