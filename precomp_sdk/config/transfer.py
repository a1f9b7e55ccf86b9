"""What the file of a transfer matrix says, as frozen models."""

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field

from precomp_sdk.config.experiment import (
    ComponentTable,
    Loadable,
    Natural,
    Output,
    Positive,
    Proxy,
    Table,
    arguments_of,
)
from precomp_sdk.evaluation import transfer_matrix

__all__ = ["Trained", "Transfer"]

if TYPE_CHECKING:  # made from a signature, so a type checker knows no more of it
    _Evaluate: TypeAlias = Table
else:
    _Evaluate = arguments_of(
        "TransferEvaluate", transfer_matrix, "min_overlap", "skip_unreadable",
        replicates=Natural, seed=Natural, batch_size=Positive, workers=Positive | None,
    )  # fmt: skip


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
    evaluate: _Evaluate = _Evaluate()
    output: Output

    def arguments(self) -> dict[str, Any]:
        """Return the numbers that `transfer_matrix` takes."""
        return self.evaluate.arguments()
