"""Names to objects, checked against each other before any work begins."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from precomp_sdk._trust import refuse_acting
from precomp_sdk.codec import Codec
from precomp_sdk.component import construct
from precomp_sdk.config import (
    ChooserTable,
    ComponentTable,
    Experiment,
    Inner,
    Loadable,
    Proxy,
    TrainingChooserTable,
    check_options,
    inner_components,
)
from precomp_sdk.data import TaskDataset
from precomp_sdk.deploy import load_shipped_task
from precomp_sdk.errors import ConfigError, PluginError, PrecompError, reason_of
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.registry import Registry
from precomp_sdk.run.components import EvaluationComponents, TrainingComponents
from precomp_sdk.run.datasets import check_same_classes
from precomp_sdk.task import TaskModel
from precomp_sdk.training import load_module, load_proxy
from precomp_sdk.weights import read_name

__all__ = [
    "Builder",
    "build",
    "build_evaluation",
    "prepare",
]


def build(experiment: Experiment, registry: Registry, *, trust: bool = True) -> TrainingComponents:
    """Construct everything a training run and its evaluation need.

    Components are constructed with the random state of ``train.seed`` each; the caller's does not move. ``trust`` is
    False where the experiment is not the user's own word, see `Builder`.

    Raises:
        UnknownNameError: no plugin offers a name.
        ConfigError: an option is unknown or of the wrong type.
        TargetError: a data set's targets do not fit the task.
        QualityError: a ladder leaves the codec's scale.
        PrecompError: a component refuses its options; the message names the key.
    """
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    parts = build_evaluation(experiment, registry, trust=trust)
    data = experiment.data
    train: TaskDataset = builder.make("dataset", data.train, "data.train")
    held_out: TaskDataset | None = None
    if data.held_out is not None:
        held_out = builder.make("dataset", data.held_out, "data.held_out")
    task_train: TaskDataset = builder.make("dataset", data.task, "data.task") if data.task else train
    if experiment.task.fit is not None:
        builder.check_targets(parts.task, task_train, "data.task" if data.task else "data.train", fitting=True)
    if experiment.train.targets == "dataset":
        builder.check_targets(parts.task, train, "data.train")
        if held_out is not None:
            builder.check_targets(parts.task, held_out, "data.held_out")
    builder.check_ladder(parts.codec, experiment.train.ladder, "train.ladder")
    components = TrainingComponents(
        codec=parts.codec,
        preprocessor=parts.preprocessor,
        task=parts.task,
        val=parts.val,
        proxy=parts.proxy or builder.make_proxy(experiment.proxy, parts.codec),
        judges=parts.judges,
        panel=parts.panel,
        train=train,
        held_out=held_out,
        task_train=task_train,
        select=None if experiment.select is None else builder.make("task", experiment.select, "select"),
        training_panel={} if experiment.chooser is None else builder.make_panel(experiment.chooser, "chooser"),
    )
    check_same_classes(components.labelled(experiment), experiment.origin)
    return components


def build_evaluation(experiment: Experiment, registry: Registry, *, trust: bool = True) -> EvaluationComponents:
    """Construct what an evaluation needs; see `build`.

    Args:
        experiment: what it is for.
        registry: of the names in it.
        trust: False where the experiment is only read, see `Builder`.
    """
    builder = Builder(registry, experiment.origin, experiment.train.seed, trust=trust)
    codec: Codec = builder.make("codec", experiment.codec, "codec")
    settings = experiment.evaluate
    builder.check_ladder(codec, settings.ladder, "evaluate.ladder", at_least=2)
    builder.check_ladder(codec, settings.anchor_ladder, "evaluate.anchor_ladder", at_least=2)
    task: TaskModel = builder.make("task", experiment.task, "task")
    val: TaskDataset = builder.make("dataset", experiment.data.val, "data.val")
    if not settings.pseudo_labels:
        builder.check_targets(task, val, "data.val")
    judges: dict[str, TaskModel] = {
        label: builder.make("task", table, f"evaluate.judges.{label}") for label, table in settings.judges.items()
    }
    for judge in judges.values():
        if not (settings.pseudo_labels or settings.judge_pseudo_labels):
            builder.check_targets(judge, val, "data.val")
    panel = {} if settings.chooser is None else builder.make_panel(settings.chooser, "evaluate.chooser")
    preprocessor, proxy = builder.make_preprocessor(experiment, codec, task)
    return EvaluationComponents(codec, preprocessor, task, val, proxy, judges, panel)


class Builder:
    """Constructs components of a file's tables, with errors that name file and key.

    Args:
        registry: of the names.
        origin: the file.
        seed: of the random state each component is constructed with.
        trust: False where the file is only read: an option that names a program or a module is refused then.
    """

    def __init__(self, registry: Registry, origin: str, seed: int, *, trust: bool = True) -> None:
        self._registry = registry
        self._origin = origin
        self._seed = seed
        self._trust = trust

    def make(
        self, kind: str, table: ComponentTable, key: str, parts: Mapping[str, object] = MappingProxyType({})
    ) -> Any:
        """Construct one component of a kind other than a proxy, and load its weights where the table asks for it.

        An option whose type is one of the contracts is a table of its own (or a list of them), made here too.

        Args:
            kind: of component.
            table: its name and options.
            key: where it stands in the file.
            parts: what a preprocessor may name in its ``requires``.
        """
        name = self.name_of(kind, table.name, key)
        classes: Mapping[str, Mapping[str, type]] = {
            "codec": self._registry.codecs,
            "preprocessor": self._registry.preprocessors,
            "task": self._registry.tasks,
            "dataset": self._registry.datasets,
        }
        where = f"{self._origin}, {key}"
        if name not in classes[kind]:
            with located(f"{where}.name", instead=True):
                self._registry.create(kind, name)  # raises, and knows the nearest name
        cls = classes[kind][name]
        taken = [self._part(cls, name, parts, where) for name in getattr(cls, "requires", ())]
        inner = inner_components(cls, table.options, where)
        plain = {name: value for name, value in table.options.items() if name not in inner}
        options: dict[str, Any] = check_options(cls, plain, where, given=inner)
        if not self._trust:
            refuse_acting(cls, options, where)
        for name, (inner_kind, found) in inner.items():
            options[name] = self._make_inner(inner_kind, found, f"{key}.{name}", parts)
        with located(where), self._seeded():
            made: Any = construct(cls, *taken, **options)
        if isinstance(table, Loadable):
            self._load(table, made, key)
        return made

    def make_panel(self, table: ChooserTable | TrainingChooserTable, key: str) -> dict[str, TaskModel]:
        """Construct a chooser's panel.

        Raises:
            ConfigError: it has no member.
        """
        where = f"{self._origin}, {key}"
        panel: dict[str, TaskModel] = {
            label: self.make("task", member, f"{key}.panel.{label}") for label, member in table.panel.items()
        }
        with located(f"{where}.shipped"):
            panel.update((name, load_shipped_task(name, self._registry)) for name in table.shipped)
        if not panel:
            raise ConfigError(
                where=where,
                expected="a panel of one network or more",
                got="none",
                remedy=f'Add tables {key}.panel.LABEL, or shipped = ["nanodet", "squeezenet"].',
            )
        return panel

    def name_of(self, kind: str, name: str, key: str) -> str:
        """Return a component's registered name; one that is an import path is imported first, where that may be.

        Raises:
            ConfigError: it is an import path in a file that is only read.
            PluginError: it cannot be imported, or is no class of its kind.
        """
        if ":" not in name:
            return name
        if not self._trust:
            raise ConfigError(
                where=f"{self._origin}, {key}.name",
                expected="no module in an experiment that is only read: a file must not make this program run others",
                got=repr(name),
                remedy="Say --trust (trust=True in Python) if you wrote the file, or know who did.",
            )
        with located(f"{self._origin}, {key}.name", instead=True):
            return self._registry.add_import(kind, name)

    def make_proxy(self, table: Proxy, codec: Codec) -> ProxyCodec:
        """Construct the codec's proxy, and load its weights where the table asks for it."""
        where = f"{self._origin}, proxy"
        name = None if table.name is None else self.name_of("proxy", table.name, "proxy")
        with located(f"{where}.name", instead=True):
            cls = self._registry.proxy_class(codec, name)
        options = check_options(cls, table.options, where)
        if not self._trust:
            refuse_acting(cls, options, where)
        with located(where), self._seeded():
            proxy = self._registry.proxy_for(codec, cls.name, **options)
        if table.load is not None:
            with located(f"{self._origin}, proxy.load"):
                load_proxy(table.load, proxy, any_version=table.any_version)
        return proxy

    def make_preprocessor(
        self, experiment: Experiment, codec: Codec, task: TaskModel | None
    ) -> tuple[Preprocessor, ProxyCodec | None]:
        """Construct an experiment's preprocessor, and the proxy where it works with one."""
        works_with_proxy = "proxy" in self.requirements_of(experiment.preprocessor)
        proxy = self.make_proxy(experiment.proxy, codec) if works_with_proxy else None
        parts = {"codec": codec, "proxy": proxy, "task": task}
        return self.make("preprocessor", experiment.preprocessor, "preprocessor", parts), proxy

    def requirements_of(self, table: ComponentTable) -> frozenset[str]:
        """Return what a preprocessor of a file, or one among its options, is constructed from, such as ``"proxy"``."""
        cls = self._registry.preprocessors.get(self.name_of("preprocessor", table.name, "preprocessor"))
        if cls is None:  # `make` knows what to say
            return frozenset()
        found = inner_components(cls, table.options, f"{self._origin}, preprocessor")
        single = [item for kind, item in found.values() if kind == "preprocessor" and isinstance(item, ComponentTable)]
        return frozenset(cls.requires).union(*map(self.requirements_of, single))

    def check_targets(self, task: TaskModel, dataset: TaskDataset, key: str, *, fitting: bool = False) -> None:
        """Raise `TargetError` where a data set's targets do not fit the task."""
        if fitting:
            remedy = "Name a data set of that kind under data.task, or leave task.fit out."
        else:
            remedy = (
                'Choose a data set of that kind, or the task\'s own answers: train.targets = "pseudo-labels", '
                "evaluate.pseudo_labels = true."
            )
        with located(f"{self._origin}, {key}"):
            task.check_targets(dataset, remedy=remedy)

    def check_ladder(self, codec: Codec, ladder: tuple[float, ...] | None, key: str, *, at_least: int = 1) -> None:
        """Raise `QualityError` where a quality is off the codec's scale."""
        qualities = codec.quality_scale.ladder if ladder is None else ladder
        with located(f"{self._origin}, {key}"):
            checked = {codec.quality_scale.check(quality) for quality in qualities}
        if len(checked) < at_least:
            raise ConfigError(
                where=f"{self._origin}, {key}",
                expected=f"{at_least} or more different qualities",
                got=repr(list(qualities)),
                remedy="Give more, or leave it out for the codec's own ladder.",
            )

    def _make_inner(self, kind: str, found: Inner, key: str, parts: Mapping[str, object]) -> Any:
        match found:
            case ComponentTable():
                return self.make(kind, found, key, parts)
            case tuple():
                return [self.make(kind, item, f"{key}[{place}]", parts) for place, item in enumerate(found)]
            case _:
                return {name: self.make(kind, item, f"{key}.{name}", parts) for name, item in found.items()}

    def _part(self, cls: type, name: str, parts: Mapping[str, object], where: str) -> object:
        if parts.get(name) is None:
            raise PluginError(
                where=f"{where}: {cls.__module__}.{cls.__qualname__}.requires",
                expected=f"names among {', '.join(repr(known) for known in ('codec', 'proxy', 'task'))}",
                got=repr(name),
                remedy="Name what the experiment can give.",
            )
        return parts[name]

    def _load(self, table: Loadable, module: nn.Module, key: str) -> None:
        if table.load is not None:
            with located(f"{self._origin}, {key}.load"):
                if isinstance(module, TaskModel) and table.load.is_file() and read_name(table.load) is None:
                    module.load(table.load)  # a plain state dict
                    return
                load_module(table.load, module, name=str(getattr(module, "name", "")))

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            yield


def prepare(experiment: Experiment, parts: EvaluationComponents, images: TaskDataset, device: torch.device) -> None:
    """Let a preprocessor that has nothing to train measure what it needs, for the ladder it is evaluated on.

    Raises:
        PrecompError: as its `Preprocessor.prepare` raises it; the message names the key.
    """
    parts.task.to(device)
    with located(f"{experiment.origin}, preprocessor"):
        parts.preprocessor.prepare(images, experiment.evaluate.ladder)


@contextmanager
def located(where: str, *, instead: bool = False) -> Iterator[None]:
    """Put file and key before (or instead of) the place that an error names.

    Raises:
        ConfigError: in place of a `TypeError`, `ValueError` or `OSError` of a plugin's own.
    """
    try:
        yield
    except PrecompError as error:
        raise type(error)(
            where=where if instead else f"{where}: {error.where}",
            expected=error.expected,
            got=error.got,
            remedy=error.remedy,
        ) from error
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(
            where=where,
            expected="options that the component accepts",
            got=reason_of(error),
            remedy="Look at the option that it names; --traceback shows where it comes from.",
        ) from error
