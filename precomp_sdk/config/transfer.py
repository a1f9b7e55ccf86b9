"""What the file of a transfer matrix says, as frozen models."""

from dataclasses import dataclass, replace

from pydantic import Field

from precomp_sdk.config.experiment import (
    ComponentTable,
    Loadable,
    Output,
    Proxy,
    Table,
)
from precomp_sdk.evaluation import Baseline, Control, EvaluateSettings

__all__ = ["Trained", "Transfer", "TransferEvaluate"]


@dataclass(frozen=True, slots=True)
class TransferEvaluate(EvaluateSettings):
    """The table ``[evaluate]`` of a transfer file: every key is a field of `EvaluateSettings`.

    Args:
        baselines: rows beside the preprocessors; tuning one for every codec takes long.
    """

    baselines: tuple[str | Baseline | Control, ...] = ("equal-bits",)


class Trained(Loadable):
    """A preprocessor, and the labels of what it was trained with.

    One that works with codec, proxy and task is constructed from the first ones of its loop.
    """

    codecs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class TransferData(Table):
    """The data sets.

    Args:
        val: to measure on.
        train: to prepare preprocessors on that have nothing to train, where there are any.
    """

    val: ComponentTable
    train: ComponentTable | None = None


class Transfer(Table):
    """Preprocessors, codecs and backbones by labels of one's choice; ladders and proxies by the codec's label."""

    codecs: dict[str, ComponentTable] = Field(min_length=1)
    tasks: dict[str, Loadable] = Field(min_length=1)
    preprocessors: dict[str, Trained] = Field(min_length=1)
    proxies: dict[str, Proxy] = Field(default_factory=dict)
    ladders: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    anchor_ladders: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    data: TransferData
    evaluate: TransferEvaluate = TransferEvaluate()
    output: Output

    def settings(self) -> dict[str, EvaluateSettings]:
        """Return the settings of each codec, with its ladders, by its label."""
        labels = {*self.codecs, *self.ladders, *self.anchor_ladders}  # `transfer_matrix` tells of unknown ones
        return {
            label: replace(
                self.evaluate,
                ladder=self.ladders.get(label, self.evaluate.ladder),
                anchor_ladder=self.anchor_ladders.get(label, self.evaluate.anchor_ladder),
            )
            for label in labels
        }
