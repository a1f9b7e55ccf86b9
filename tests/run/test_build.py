from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_sdk import (
    Boxes,
    Codec,
    ConfigError,
    DatasetError,
    PrecompError,
    Preprocessor,
    QualityError,
    Registry,
    TargetError,
    TaskDataset,
    UnknownNameError,
    hookimpl,
)
from precomp_sdk.config import parse_experiment
from precomp_sdk.errors import CheckpointError, OptionError
from precomp_sdk.run import build, build_evaluation
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor
from precomp_sdk.training import save_module

Tables = dict[str, Any]


class Drawn(Preprocessor):
    """Starts from random weights."""

    name = "drawn"
    source = "a double"

    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(width))

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        return images


class Moody(FakeDataset):
    """Refuses its options in several ways."""

    name = "moody"

    def __init__(self, *, mood: str) -> None:
        super().__init__()
        if mood == "value":
            raise ValueError("a bad day")
        if mood == "option":
            raise OptionError(where="option 'mood'", expected="good", got="bad", remedy="Smile.")
        if mood == "file":
            raise DatasetError(where="some/folder", expected="images", got="none", remedy="Look.")


class Other(FakeCodec):
    """A codec without a proxy."""

    name = "other"


class More:
    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [Other]

    @hookimpl
    def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
        return [Drawn]

    @hookimpl
    def precomp_register_datasets(self) -> list[type[TaskDataset]]:
        return [Moody]


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(More(), "more")
    return doubles


def built(tables: Tables, registry: Registry, *overrides: str) -> Any:
    return build(parse_experiment(tables, origin="mine.toml", overrides=overrides), registry)


def test_names_become_objects_with_their_options(tables: Tables, registry: Registry) -> None:
    parts = built(
        tables, registry, "codec.level=3", "data.held_out.name=fake", "data.task.name=fake", "data.task.count=5"
    )

    assert parts.codec.options == {"level": 3}
    assert (len(parts.train), len(parts.val), len(parts.held_out), len(parts.task_train)) == (30, 12, 24, 5)
    assert parts.proxy.codec is parts.codec
    assert parts.proxy.name == "fake"


def test_without_tables_of_their_own_task_and_held_out_share_the_training_images(
    tables: Tables, registry: Registry
) -> None:
    parts = built(tables, registry)

    assert parts.held_out is None
    assert parts.task_train is parts.train


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("codec.name=fak", "codec.name", "'fake'"),
        ("proxy.name=fakes", "proxy.name", "'fake'"),
        ("preprocessor.name=fale", "preprocessor.name", "'fake'"),
        ("task.name=fakee", "task.name", "'fake'"),
        ("data.train.name=fke", "data.train.name", "'fake'"),
        ("data.val.name=zzz", "data.val.name", "'fake', 'moody'"),
        ("codec.name=other", "proxy.name", "own ProxyCodec"),
    ],
)
def test_an_unknown_name_is_told_with_file_key_and_the_nearest_one(
    tables: Tables, registry: Registry, override: str, key: str, hint: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        built(tables, registry, override)

    assert caught.value.where == f"mine.toml, {key}"
    assert hint in caught.value.remedy


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("codec.levle=3", "codec.levle"),
        ("codec.level=high", "codec.level"),
        ("proxy.anything=1", "proxy.anything"),
        ("preprocessor.gain='1'", "preprocessor.gain"),
        ("task.classes=4.5", "task.classes"),
        ("data.train.size=[1]", "data.train.size.1"),
        ("data.val.cuont=1", "data.val.cuont"),
    ],
)
def test_a_wrong_option_is_told_with_file_and_key(tables: Tables, registry: Registry, override: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(tables, registry, override)

    assert caught.value.where.startswith("mine.toml, ")
    assert key.startswith(caught.value.where.removeprefix("mine.toml, "))


@pytest.mark.parametrize(
    ("mood", "kind", "where"),
    [
        ("value", ConfigError, "mine.toml, data.train"),
        ("option", OptionError, "mine.toml, data.train: option 'mood'"),
        ("file", DatasetError, "mine.toml, data.train: some/folder"),
    ],
)
def test_a_component_that_refuses_is_told_with_file_and_table(
    tables: Tables, registry: Registry, mood: str, kind: type[PrecompError], where: str
) -> None:
    tables["data"]["train"] = {"name": "moody", "mood": mood}

    with pytest.raises(kind) as caught:
        built(tables, registry)

    assert type(caught.value) is kind
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["train.targets=dataset", "data.train.labelled=false"], "data.train"),
        (["train.targets=dataset", "data.held_out={name='fake', labelled=false}"], "data.held_out"),
        (["data.val.labelled=false"], "data.val"),
        (["task.fit.epochs=1", "data.train.labelled=false"], "data.train"),
        (["task.fit.epochs=1", "data.task={name='fake', labelled=false}"], "data.task"),
    ],
)
def test_images_without_labels_are_refused_where_labels_are_needed(
    tables: Tables, registry: Registry, overrides: list[str], key: str
) -> None:
    with pytest.raises(TargetError, match="no targets") as caught:
        built(tables, registry, *overrides)

    assert caught.value.where.startswith(f"mine.toml, {key}: data set 'fake'")
    remedy = (
        "under data.task, or leave task.fit out"
        if overrides[0] == "task.fit.epochs=1"
        else 'train.targets = "pseudo-labels"'
    )
    assert remedy in caught.value.remedy


def test_images_without_labels_suffice_for_the_tasks_own_answers(tables: Tables, registry: Registry) -> None:
    parts = built(
        tables, registry, "data.train.labelled=false", "data.val.labelled=false", "evaluate.pseudo_labels=true"
    )

    assert parts.train.target_kind is None


def test_targets_of_another_kind_are_named(tables: Tables, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from precomp_sdk.testing import FakeTask

    monkeypatch.setattr(FakeTask, "target_kind", Boxes.kind)

    with pytest.raises(TargetError, match=r"expected targets of kind 'boxes'; got targets of kind 'label'"):
        built(tables, registry)


def test_a_tasks_own_objection_to_a_data_set_names_the_key(
    tables: Tables, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from precomp_sdk.testing import FakeTask

    def refuse(self: FakeTask, class_names: object) -> None:
        raise TargetError(where="task 'fake'", expected="3 classes", got="4", remedy="Count.")

    monkeypatch.setattr(FakeTask, "check_dataset", refuse)

    with pytest.raises(TargetError) as caught:
        built(tables, registry)

    assert caught.value.where == "mine.toml, data.val: task 'fake'"


@pytest.mark.parametrize(
    ("override", "kind", "where"),
    [
        ("train.ladder=[5, 140]", QualityError, "mine.toml, train.ladder: quality"),
        ("train.ladder=[5.5]", QualityError, "mine.toml, train.ladder: quality"),
        ("evaluate.ladder=[0, 5]", QualityError, "mine.toml, evaluate.ladder: quality"),
        ("evaluate.ladder=[5, 5]", ConfigError, "mine.toml, evaluate.ladder"),
        ("evaluate.baselines=['blurr']", ConfigError, "mine.toml, evaluate.baselines"),
    ],
)
def test_what_an_evaluation_would_refuse_is_refused_before_training(
    tables: Tables, registry: Registry, override: str, kind: type[PrecompError], where: str
) -> None:
    with pytest.raises(kind) as caught:
        built(tables, registry, override)

    assert caught.value.where == where


def test_an_evaluation_needs_neither_proxy_nor_training_images(tables: Tables, registry: Registry) -> None:
    tables["data"]["train"] = {"name": "gone"}

    parts = build_evaluation(parse_experiment(tables, overrides=["codec.name=other"]), registry)

    assert parts.codec.name == "other"


def test_components_are_drawn_from_the_seed_and_leave_the_callers_chance_alone(
    tables: Tables, registry: Registry
) -> None:
    tables["preprocessor"] = {"name": "drawn"}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    first = built(tables, registry).preprocessor.weight
    second = built(tables, registry, "codec.level=1").preprocessor.weight
    other = built(tables, registry, "train.seed=1").preprocessor.weight

    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_weights_are_loaded_where_a_table_asks_for_it(tables: Tables, registry: Registry, tmp_path: Any) -> None:
    path = tmp_path / "start.safetensors"
    save_module(path, FakePreprocessor(gain=0.25), name="fake", options={}, facts={})

    parts = built(tables, registry, f"preprocessor.load='{path}'")

    assert parts.preprocessor.gain.item() == 0.25


@pytest.mark.parametrize("table", ["preprocessor", "task", "proxy"])
def test_weights_that_do_not_fit_are_told_with_the_key(
    tables: Tables, registry: Registry, tmp_path: Any, table: str
) -> None:
    path = tmp_path / "start.safetensors"
    save_module(path, Drawn(), name="drawn", options={}, facts={})

    with pytest.raises(CheckpointError) as caught:
        built(tables, registry, f"{table}.load='{path}'")

    assert caught.value.where == f"mine.toml, {table}.load: {path}"
