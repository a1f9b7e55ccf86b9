"""The moving parts of one training run: weights, optimizer, average and position."""

import copy
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from precomp_sdk.channel import Channel
from precomp_sdk.chooser import QualityChooser
from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.errors import CheckpointError
from precomp_sdk.events import CheckpointSaved, StepDone
from precomp_sdk.interrupts import Interrupted, deferred
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.training.checkpoints import save_module
from precomp_sdk.training.context import RunContext
from precomp_sdk.training.grouping import group_by_padding
from precomp_sdk.training.held_out import HeldOutBatch
from precomp_sdk.training.loading import Batches
from precomp_sdk.training.nan_guard import NaNGuard
from precomp_sdk.training.objective import Calibration
from precomp_sdk.training.run_folder import STATE_FILE, WEIGHTS_FILE
from precomp_sdk.training.run_state import check_moments, load_state, loading, save_state
from precomp_sdk.training.selection import Selection
from precomp_sdk.training.settings import FREE_SETTINGS
from precomp_sdk.training.step import StepTerms, training_step
from precomp_sdk.types import Sample

__all__ = [
    "TrainingLoop",
    "identity_of",
    "read_checkpoint",
]

_SUMS = ("objective", "loss")  # of the other terms
_WARM_UP_SHARE = 3  # the warm-up takes no more than a third of a run
_LAST_RATE = 0.02  # the cosine ends at this share of the peak: the last steps still move


class TrainingLoop:
    """One run from a start or a checkpoint to its last step.

    Args:
        context: what works together.
        calibration: the objective.
        held_out: where the relative objective is measured.
        folder: for the checkpoint and the weights, or None.
        state: of an interrupted run, or None.
        selection: chooses the weights that are kept by a held-out network; None keeps the last ones.
    """

    def __init__(
        self,
        context: RunContext,
        calibration: Calibration,
        held_out: HeldOutBatch,
        folder: Path | None,
        state: dict[str, Any] | None,
        selection: Selection | None = None,
    ) -> None:
        self._context = context
        self._channel = Channel(context.transcoder, context.preprocessor, proxy=context.proxy)
        self._settings = context.settings
        self._calibration = calibration
        self._held_out = held_out
        self._folder = folder
        self._selection = selection
        self.step: int = 0
        self.position: tuple[int, int] = (0, 0)
        trained = {name: getattr(context, name) for name in self._settings.train}
        self._learning = list(dict.fromkeys(item for module in trained.values() for item in module.parameters()))
        optimizer = torch.optim.AdamW(
            self._learning, lr=self._settings.learning_rate, weight_decay=self._settings.weight_decay
        )
        average = get_ema_multi_avg_fn(self._settings.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(context.preprocessor, multi_avg_fn=average)
        if state is not None:
            self.step, self.position = int(state["step"]), (int(state["position"][0]), int(state["position"][1]))
            path = (folder or Path()) / STATE_FILE
            with loading(path, "average"):
                self._average.load_state_dict(state["average"])
            with loading(path, "optimizer"):
                optimizer.load_state_dict(state["optimizer"])
            check_moments(path, optimizer)
            if state.get("precision"):
                with loading(path, "precision"):
                    context.fabric.strategy.precision.load_state_dict(state["precision"])
        self._trained = nn.ModuleDict(trained)
        self._optimizer: Any = context.fabric.setup_optimizers(optimizer)

    def run(self, batches: Batches) -> dict[float, float]:
        """Train to the end and leave the averaged weights in the preprocessor, or those that were chosen.

        Returns:
            The relative objective on the held-out batch, by quality.
        """
        settings = self._settings
        relative = self._relative()
        if self.step == 0:
            self._report(self._selected(), relative)
        elif self._folder is not None:  # an interruption may have left the weights of another step
            self._save_weights(self._folder)
        with deferred() as asked:
            for samples in islice(batches, settings.steps - self.step):
                terms = self._one_step(samples)
                self.step += 1
                self.position = batches.state
                last = self.step == settings.steps
                stop = None if last else self._stop_asked(asked())
                measure = last or self.step % settings.held_out_every == 0
                save = last or stop is not None or self.step % settings.checkpoint_every == 0
                if measure or (save and self._folder is not None):
                    self._check_weights()
                relative = self._relative() if measure else relative
                self._report({**terms, **(self._selected() if measure else {})}, relative if measure else {})
                if self._folder is not None and save:
                    self._save(self._folder)
                if stop is not None:
                    raise Interrupted(stop, self._kept())
        self._context.preprocessor.load_state_dict(self._average.module.state_dict())
        self._context.preprocessor.eval()
        if self._selection is not None and self._selection.step != self.step:
            self._context.preprocessor.load_state_dict(self._selection.weights)
            guard = NaNGuard(f"held-out images with the weights of step {self._selection.step}", self._folder)
            relative = self._held_out.relative(self._context.preprocessor, guard)
        return relative

    def _selected(self) -> dict[str, float]:
        """Let the held-out network judge the weights as they now are."""
        if self._selection is None:
            return {}
        guard = NaNGuard(f"held-out network after training step {self.step}", self._folder)
        found = self._selection.consider(self.step, cast(Preprocessor, self._average.module), guard)
        return {"select/mean": found, "select/step": float(self._selection.step)}

    def _stop_asked(self, number: int | None) -> int | None:
        """Return the signal that asks this process, or any of several, to stop after this step."""
        fabric = self._context.fabric
        if fabric.world_size == 1:
            return number
        numbers: Any = fabric.all_reduce(torch.tensor(float(number or 0), device=fabric.device), reduce_op="max")
        return int(numbers) or None

    def _kept(self) -> str:
        place = "nothing is saved: the run has no folder" if self._folder is None else f"saved in {self._folder}"
        return f"step {self.step} of {self._settings.steps}, {place}"

    def _one_step(self, samples: Sequence[Sample]) -> dict[str, float]:
        rate = self._learning_rate()
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        # one stream of chance per step and process, so that a resumed run draws what an uninterrupted one would
        draw = random.Random(f"{self._settings.seed}/{self.step}/{self._context.fabric.global_rank}")
        torch.manual_seed(draw.getrandbits(48))
        guard = NaNGuard(f"training step {self.step + 1}", self._folder)
        terms: list[StepTerms] = []
        for group in group_by_padding(samples, self._settings.max_padding):
            result = training_step(
                group,
                [self._quality(sample, draw) for sample in group],
                channel=self._channel,
                task=self._context.task,
                calibration=self._calibration,
                settings=self._settings,
                fabric=self._context.fabric,
                guard=guard,
            )
            named = {**result.scalars, "loss": float(result.loss.detach())}
            for name in sorted(named, key=lambda name: name in _SUMS):  # a NaN in a term makes its sums NaN too
                guard.check(name, named[name])
            self._context.fabric.backward(result.loss * (len(group) / len(samples)))
            terms.append(result)
        self._average_gradients()
        clipped = self._context.fabric.clip_gradients(
            self._trained, self._optimizer, max_norm=self._settings.clip_norm, error_if_nonfinite=False
        )
        norm = math.inf if clipped is None else float(clipped)
        if self._settings.precision != "16-mixed":  # whose scaler finds its scale by overflowing, and skips such steps
            guard.check("gradient norm", norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if next(self._context.preprocessor.parameters(), None) is not None:
            self._average.update_parameters(self._context.preprocessor)
        else:  # nothing to average, which fails in PyTorch
            self._average.module.load_state_dict(self._context.preprocessor.state_dict())
        return {**StepTerms.merge(terms), "gradient_norm": norm, "learning_rate": rate}

    def _quality(self, sample: Sample, draw: random.Random) -> float:
        """Return one of the ladder, or what a chooser takes for the image there."""
        quality, chooser = draw.choice(self._context.ladder), self._context.chooser
        return quality if chooser is None else chooser.choose(sample.image, quality, search="searched").quality

    def _average_gradients(self) -> None:
        """Average over processes. A wrapper per module would not pass frozen records, nor groups of unequal sizes."""
        if self._context.fabric.world_size == 1:
            return
        for parameter in self._learning:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self._context.fabric.all_reduce(gradient, reduce_op="mean")

    def _learning_rate(self) -> float:
        settings = self._settings
        warm_up = min(settings.warmup_steps, settings.steps // _WARM_UP_SHARE)
        warm = min(1.0, (self.step + 1) / max(1, warm_up))
        cosine = 0.5 * (1.0 + math.cos(math.pi * self.step / settings.steps))
        return settings.learning_rate * warm * (_LAST_RATE + (1.0 - _LAST_RATE) * cosine)

    def _relative(self) -> dict[float, float]:
        # before the first update the average is the preprocessor as it came; afterwards it is what will be saved
        guard = NaNGuard(f"held-out images after training step {self.step}", self._folder)
        return self._held_out.relative(cast(Preprocessor, self._average.module), guard)

    def _check_weights(self) -> None:
        """Look at what the last step left behind: finite terms and gradients can still end in endless weights."""
        guard = NaNGuard(f"training step {self.step}", self._folder)
        for title, module in (("weight", self._trained), ("averaged weight", self._average.module)):
            for name, value in module.state_dict().items():
                guard.check(f"{title} {name}", value)

    def _report(self, scalars: dict[str, float], relative: dict[float, float]) -> None:
        name = self._context.transcoder.codec.quality_scale.name
        logged = {f"relative/{name}_{quality:g}": value for quality, value in relative.items()}
        if relative:
            logged["relative/mean"] = sum(relative.values()) / len(relative)
        self._context.notify(StepDone("train", self.step, self._settings.steps, {**scalars, **logged}))

    def _save(self, folder: Path) -> None:
        """Write the weights, then the state: a run that is resumed after an interruption between writes them again."""
        context = self._context
        self._save_weights(folder)
        task = context.task
        normalized = isinstance(task, EnsembleTask) and task.normalize
        if context.fabric.is_global_zero:
            save_state(
                folder / STATE_FILE,
                {
                    "run": identity_of(context),
                    "step": self.step,
                    "position": self.position,
                    "calibration": [asdict(point) for point in self._calibration.points],
                    "anchor": self._held_out.anchor,
                    "units": {"losses": task.units, "layers": task.layer_units} if normalized else None,
                    "selection": None if self._selection is None else self._selection.state(),
                    "average": self._average.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "precision": context.fabric.strategy.precision.state_dict(),  # the scale of 16-bit gradients
                    "weights": {name: getattr(context, name).state_dict() for name in self._settings.train},
                },
            )
            context.notify(CheckpointSaved(self.step, folder / STATE_FILE))
        context.fabric.barrier()

    def _save_weights(self, folder: Path) -> None:
        context = self._context
        if context.fabric.is_global_zero:
            codec, network = context.transcoder.codec, context.preprocessor
            kept, step = copy.deepcopy(self._average.module), self.step
            if self._selection is not None and self._selection.weights:
                kept.load_state_dict(self._selection.weights)
                step = self._selection.step
            save_module(
                folder / WEIGHTS_FILE,
                kept,
                name=network.name,
                options=network.options,
                facts={
                    "codec": codec.name,
                    "codec_options": dict(codec.coding_options),
                    "codec_version": codec.version,
                    "ladder": list(context.ladder),
                    "task": context.task.name,
                    "steps": step,
                },
            )


def read_checkpoint(folder: Path, context: RunContext) -> dict[str, Any] | None:
    """Read the checkpoint of a run and load the trained weights; None where there is none yet.

    Raises:
        CheckpointError: it belongs to other settings, or is damaged.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    state = load_state(path, steps=context.settings.steps)
    ours, theirs = identity_of(context), state.get("run", {})
    for key in ours:
        if ours[key] != theirs.get(key):
            raise CheckpointError(
                where=str(path),
                expected=f"a checkpoint of a run with {key} = {ours[key]!r}",
                got=f"{key} = {theirs.get(key)!r}",
                remedy="Use the settings it was started with, or another folder.",
            )
    if sorted(state["weights"]) != sorted(context.settings.train):
        raise CheckpointError(
            where=f"{path}, weights",
            expected=f"those of {', '.join(context.settings.train)}",
            got=", ".join(map(str, state["weights"])) or "none",
            remedy="The file is damaged: restore it, or start the run anew (--overwrite).",
        )
    for name, weights in state["weights"].items():
        with loading(path, f"weights.{name}"):
            getattr(context, name).load_state_dict(weights)
    return state


def identity_of(context: RunContext) -> dict[str, Any]:
    """Return what must agree before and after an interruption, as plain values."""
    settings = asdict(context.settings)
    for free in FREE_SETTINGS:
        del settings[free]
    if not isinstance(settings["lambdas"], str):
        settings["lambdas"] = dict(settings["lambdas"])
    codec = context.transcoder.codec
    return {
        **settings,
        "ladder": context.ladder,
        "codec": codec.name,
        "codec options": {key: str(value) for key, value in codec.coding_options.items()},
        "preprocessor": context.preprocessor.name,
        "preprocessor options": {key: str(value) for key, value in context.preprocessor.options.items()},
        "proxy": context.proxy.name,
        "task": context.task.name,
        "chooser": None if context.chooser is None else _told(context.chooser),
        "world_size": context.fabric.world_size,
    }


def _told(chooser: QualityChooser) -> str:
    """Return what another chooser would not have: its members' names, its options and its curve."""
    options = [list(chooser.panel), chooser.panel_px, chooser.ladder, chooser.trust, chooser.level, chooser.monotone]
    return json.dumps([*options, chooser.curve.plain()])
