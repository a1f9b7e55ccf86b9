"""The checkpoint that is kept: the one with the least objective for a network that is not in the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from precomp_sdk.data import TaskDataset
from precomp_sdk.modules import evaluation_mode
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.task import TaskModel
from precomp_sdk.training.calibration import calibrate
from precomp_sdk.training.context import RunContext
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.objective import Calibration
from precomp_sdk.types import Sample

__all__ = ["Selection", "make_selection"]


class Selection:
    """Measures every candidate for the held-out network, and remembers the best.

    A network in the loop goes on gaining where others begin to lose: what it is shown is then an answer, not an image.
    So another one, on images that nothing was trained on, says when it was best. It has its own anchor and its own
    lambda. A network that chose is not outside any more: judge by others.

    Args:
        batch: the held-out images, for the held-out network.
        state: of an interrupted run, or None.
    """

    def __init__(self, batch: HeldOutBatch, state: Mapping[str, Any] | None = None) -> None:
        self._batch = batch
        state = state or {}
        self.step: int = int(state.get("step", 0))  #: of the best candidate so far
        self.best: float = float(state.get("best", float("inf")))  #: its mean objective relative to the anchor
        self.weights: dict[str, Tensor] = dict(state.get("weights", {}))

    def consider(self, step: int, preprocessor: Preprocessor, guard: NaNGuard) -> float:
        """Measure a candidate, keep it if it is the best so far, and return its mean relative objective.

        Args:
            step: of the run.
            preprocessor: the candidate.
            guard: says where weights are not finite.
        """
        found = self._batch.relative(preprocessor, guard)
        mean = sum(found.values()) / len(found)
        if mean < self.best:
            self.step = step
            self.best = mean
            self.weights = {name: value.detach().clone() for name, value in preprocessor.state_dict().items()}
        return mean

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"step": self.step, "best": self.best, "weights": self.weights, "anchor": self._batch.anchor}


def make_selection(
    network: TaskModel,
    context: RunContext,
    dataset: TaskDataset,
    samples: Sequence[Sample],
    state: Mapping[str, Any] | None = None,
) -> Selection:
    """Give a held-out network an anchor and a lambda of its own, by its own clean answers.

    Args:
        network: moved to the device of the run.
        context: of the run.
        dataset: the held-out images.
        samples: the same, loaded.
        state: of an interrupted run, or None.

    Raises:
        CalibrationError: its lambda cannot be read off the anchor's curve.
    """
    settings, device = context.settings, context.fabric.device
    network.to(device).requires_grad_(False)
    with evaluation_mode(network):
        points = calibrate(
            context.transcoder,
            network,
            dataset,
            context.ladder,
            batch_size=settings.batch_size,
            skip_unreadable=settings.skip_unreadable,
            device=device,
        )
    alone = replace(
        settings, targets="pseudo-labels", lambdas="auto", task_weight=1.0, feature_weight=0.0, clean_weight=0.0
    )
    calibration, anchor = Calibration(context.fabric.broadcast(points)), (state or {}).get("anchor")
    return Selection(HeldOutBatch(samples, context.transcoder, network, calibration, alone, device, anchor), state)
