"""What an experiment file says, as frozen models.

Tables of numbers are the settings records of the work they are for, such as `TrainSettings` and `EvaluateSettings`:
nothing is written down twice, and a type checker knows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
)

from precomp_sdk.evaluation import ChooserSettings, EvaluateProxySettings, EvaluateSettings, FitChooserSettings
from precomp_sdk.training import FitProxySettings, FitTaskSettings, TrainSettings

__all__ = [
    "ChooserTable",
    "ComponentTable",
    "Data",
    "EvaluateTable",
    "Experiment",
    "Loadable",
    "Natural",
    "Output",
    "Positive",
    "Proxy",
    "ProxyEvaluation",
    "ProxyFitting",
    "Table",
    "Task",
    "TrainingChooserTable",
]


Positive: TypeAlias = Annotated[int, Field(ge=1)]
Natural: TypeAlias = Annotated[int, Field(ge=0)]


class Table(BaseModel):
    """A table of a file; keys it does not know are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)

    _origin: str = PrivateAttr(default="experiment")

    @property
    def origin(self) -> str:
        """Where it was read from, for messages."""
        return self._origin


class ComponentTable(Table):
    """A component by its name; every other key is one of its options."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        """The options as the file has them."""
        return dict(self.model_extra or {})


class Loadable(ComponentTable):
    """A component with weights: ``load`` names a file of this package's to start from."""

    load: Path | None = None


class Task(Loadable):
    """The task; with a table ``fit`` it is fitted before the run, see `fit_task`."""

    fit: FitTaskSettings | None = None


class Proxy(Loadable):
    """The proxy; without a name it is the codec's own. See `fit_proxy` for the table ``fit``.

    A proxy that needs fitting and is not loaded is fitted in any case. ``any_version`` lets ``load`` take a file that
    was fitted to another version of the codec's library.
    """

    name: str | None = None  # type: ignore[assignment]  # here, the name may be left out
    fit: FitProxySettings | None = None
    any_version: bool = False


class Data(Table):
    """The data sets.

    Args:
        train: to train (and to fit a proxy) on.
        val: to evaluate on; nothing is fitted to it.
        held_out: to log the relative objective on; default: some of ``train`` are held back.
        task: to fit the task on; default: ``train``. A task network is no judge of images it has memorised.
    """

    train: ComponentTable
    val: ComponentTable
    held_out: ComponentTable | None = None
    task: ComponentTable | None = None


@dataclass(frozen=True, slots=True)
class ChooserTable(ChooserSettings):
    """The table ``[evaluate.chooser]``: every key is a field of `ChooserSettings`, and the panel is components.

    Args:
        panel: its members, by labels of one's choice, as ``[evaluate.chooser.panel.LABEL]``.
        shipped: names of networks that come with the package, as further members: ``"nanodet"``, ``"squeezenet"``.
    """

    panel: dict[str, Loadable] = field(default_factory=dict)
    shipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingChooserTable(FitChooserSettings):
    """The table ``[chooser]``: each training image goes at the quality that a chooser takes for it, see `Trainer`.

    Args:
        panel: its members, by labels of one's choice, as ``[chooser.panel.LABEL]``.
        shipped: names of networks that come with the package, as further members: ``"nanodet"``, ``"squeezenet"``.
    """

    panel: dict[str, Loadable] = field(default_factory=dict)
    shipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluateTable(EvaluateSettings):
    """The table ``[evaluate]``: every key is a field of `EvaluateSettings`, and judges are components.

    Args:
        judges: networks outside the loop, by labels of one's choice, as ``[evaluate.judges.LABEL]``.
        chooser: quality chosen per image, as curves of their own: of the codec alone, and after the preprocessor.
    """

    judges: dict[str, Loadable] = field(default_factory=dict)
    chooser: ChooserTable | None = None


class Output(Table):
    """Where the results go.

    Args:
        folder: made where it does not exist.
        tensorboard: write its files too: ``"auto"`` where it is installed, True, False.
        wandb: log to this project of Weights & Biases, too.
        mlflow: log to this experiment of MLflow, too.
    """

    folder: Path
    tensorboard: Literal["auto"] | bool = "auto"
    wandb: str | None = None
    mlflow: str | None = None


class Experiment(Table):
    """One experiment: components by name, and every choice.

    Args:
        codec: the real codec.
        proxy: its differentiable proxy.
        preprocessor: what learns.
        task: the network in the loop.
        data: the images.
        select: a network outside the loop, by whose own clean answers the weights that are kept are chosen.
        chooser: takes the quality of each training image; without it, images are trained at the qualities drawn.
        train: of the training.
        evaluate: of the evaluation.
        output: where everything goes.
    """

    codec: ComponentTable
    proxy: Proxy = Proxy()
    preprocessor: Loadable
    task: Task
    data: Data
    select: Loadable | None = None
    chooser: TrainingChooserTable | None = None
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateTable = EvaluateTable()
    output: Output


class ProxyFitting(Table):
    """A proxy to be fitted on its own."""

    codec: ComponentTable
    proxy: Proxy = Proxy()
    data: ComponentTable
    fit: FitProxySettings = FitProxySettings()


class ProxyEvaluation(Table):
    """A proxy to be measured against its codec."""

    codec: ComponentTable
    proxy: Proxy = Proxy()
    data: ComponentTable
    evaluate: EvaluateProxySettings = EvaluateProxySettings()
