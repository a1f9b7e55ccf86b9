"""What an experiment file says, as frozen models.

Types, defaults and names of `TrainSettings`, `evaluate`, `evaluate_proxy`, `fit_task` and `fit_proxy` are taken from
there: nothing is written down twice.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model

from precomp_sdk.evaluation import evaluate, evaluate_proxy
from precomp_sdk.training import TrainSettings, fit_proxy, fit_task

__all__ = [
    "ComponentTable",
    "Data",
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
    "arguments_of",
]


Positive: TypeAlias = Annotated[int, Field(ge=1)]
Natural: TypeAlias = Annotated[int, Field(ge=0)]


class Table(BaseModel):
    """A table of a file; keys it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    _origin: str = PrivateAttr(default="experiment")

    @property
    def origin(self) -> str:
        """Where it was read from, for messages."""
        return self._origin

    def arguments(self) -> dict[str, Any]:
        """Return the values by key, as arguments of the function the table was made from."""
        return dict(self)


def arguments_of(name: str, function: Callable[..., Any], *names: str, **types: Any) -> Any:
    """Make a table of some arguments of a function, with its own types (unless given here) and defaults."""
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if key not in (*names, *types):
            continue
        default = parameter.default
        fields[key] = (types.get(key, hints[key]), ... if default is parameter.empty else default)
    return create_model(name, __base__=Table, **fields)


if TYPE_CHECKING:  # made from signatures, so a type checker knows no more of them
    _FitTask: TypeAlias = Table
    _FitProxy: TypeAlias = Table
    _Evaluate: TypeAlias = Table
    _EvaluateProxy: TypeAlias = Table
else:
    _Ladder = tuple[float, ...] | None
    _FitTask = arguments_of(
        "FitTask", fit_task, "learning_rate", "weight_decay", "clip_norm", "skip_unreadable",
        epochs=Positive, batch_size=Positive, seed=Natural, workers=Positive | None,
    )  # fmt: skip
    _FitProxy = arguments_of(
        "FitProxy", fit_proxy, "learning_rate", "skip_unreadable",
        ladder=_Ladder, steps=Positive, batch_size=Positive, crops=tuple[Positive, ...] | None, seed=Natural,
    )  # fmt: skip
    _EvaluateProxy = arguments_of(
        "EvaluateProxy", evaluate_proxy, "step_levels", "skip_unreadable",
        ladder=_Ladder, images=Positive, batch_size=Positive, workers=Positive | None,
    )  # fmt: skip
    _Evaluate = arguments_of(
        "Evaluate", evaluate, "min_overlap", "pseudo_labels", "skip_unreadable",
        ladder=_Ladder, baselines=tuple[str, ...], tuning_images=Positive, replicates=Natural, seed=Natural,
        batch_size=Positive, max_batch_pixels=Positive, workers=Positive | None,
    )  # fmt: skip


class ComponentTable(Table):
    """A component by its name; every other key is one of its options."""

    model_config = ConfigDict(extra="allow")

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

    fit: _FitTask | None = None


class Proxy(Loadable):
    """The proxy; without a name it is the codec's own. See `fit_proxy` for the table ``fit``.

    A proxy that needs fitting and is not loaded is fitted in any case. ``any_version`` lets ``load`` take a file that
    was fitted to another version of the codec's library.
    """

    name: str | None = None  # type: ignore[assignment]  # here, the name may be left out
    fit: _FitProxy | None = None
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


class Output(Table):
    """Where the results go.

    Args:
        folder: made where it does not exist.
        tensorboard: write its files too: ``"auto"`` where it is installed, True, False.
    """

    folder: Path
    tensorboard: Literal["auto"] | bool = "auto"


class Experiment(Table):
    """One experiment: components by name, and every choice."""

    codec: ComponentTable
    proxy: Proxy = Proxy()
    preprocessor: Loadable
    task: Task
    data: Data
    train: TrainSettings = TrainSettings()
    evaluate: _Evaluate = _Evaluate()
    output: Output


class ProxyFitting(Table):
    """A proxy to be fitted on its own."""

    codec: ComponentTable
    proxy: Proxy = Proxy()
    data: ComponentTable
    fit: _FitProxy = _FitProxy()


class ProxyEvaluation(Table):
    """A proxy to be measured against its codec."""

    codec: ComponentTable
    proxy: Proxy = Proxy()
    data: ComponentTable
    evaluate: _EvaluateProxy = _EvaluateProxy()
