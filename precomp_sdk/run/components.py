"""The objects that an experiment names, put together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from precomp_sdk.codec import Codec
from precomp_sdk.config import Experiment
from precomp_sdk.data import TaskDataset
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel

__all__ = ["EvaluationComponents", "TrainingComponents"]


@dataclass(frozen=True, slots=True)
class EvaluationComponents:
    """What an evaluation works with.

    Args:
        codec: the real codec.
        preprocessor: what is measured.
        task: the downstream network.
        val: the images to measure on.
        proxy: the codec's proxy, where the preprocessor works with it.
        judges: networks outside the loop, by label.
        panel: members of the chooser, by label.
    """

    codec: Codec
    preprocessor: Preprocessor
    task: TaskModel
    val: TaskDataset
    proxy: ProxyCodec | None
    judges: Mapping[str, TaskModel]
    panel: Mapping[str, TaskModel]


@dataclass(frozen=True, slots=True)
class TrainingComponents(EvaluationComponents):
    """What a training run works with.

    Args:
        proxy: the codec's proxy.
        train: the images to train on.
        held_out: those to log the relative objective on, or None to hold some of ``train`` back.
        task_train: those to fit the task on.
        select: the network outside the loop that chooses the weights, or None.
        training_panel: members of the chooser that takes the training images' qualities, by label; empty: none does.
    """

    proxy: ProxyCodec
    train: TaskDataset
    held_out: TaskDataset | None
    task_train: TaskDataset
    select: TaskModel | None = None
    training_panel: Mapping[str, TaskModel] = field(default_factory=dict)

    def datasets(self) -> dict[str, TaskDataset]:
        """Return the data sets by their keys in the file."""
        found = {"data.train": self.train, "data.val": self.val, "data.held_out": self.held_out}
        if self.task_train is not self.train:
            found["data.task"] = self.task_train
        return {key: item for key, item in found.items() if item is not None}

    def labelled(self, experiment: Experiment) -> dict[str, TaskDataset]:
        """Return those whose labels are used; training and evaluation may take the task's own answers instead."""
        fitted, trained = experiment.task.fit is not None, experiment.train.targets == "dataset"
        used = {
            "data.train": trained or (fitted and self.task_train is self.train),
            "data.val": fitted or not experiment.evaluate.pseudo_labels,
            "data.held_out": trained,
            "data.task": fitted,
        }
        return {key: item for key, item in self.datasets().items() if used[key]}
