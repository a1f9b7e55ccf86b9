import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from precomp_sdk import ConfigError
from precomp_sdk.config import Experiment, dump_experiment, load_experiment, parse_experiment, parse_proxy_fitting
from precomp_sdk.config._toml import NONE, merged, parse_override, tables_of
from precomp_sdk.config.experiment import EvaluateTable
from precomp_sdk.config.options import check_options
from precomp_sdk.evaluation import EvaluateSettings
from precomp_sdk.testing import FakeDataset
from precomp_sdk.training import FitProxySettings, FitTaskSettings, TrainSettings

Tables = dict[str, Any]


def parse(tables: Tables, *overrides: str) -> Experiment:
    return parse_experiment(tables, origin="mine.toml", overrides=overrides)


def test_the_smallest_file_has_every_default(tables: Tables) -> None:
    small = {key: tables[key] for key in ("codec", "preprocessor", "task", "data", "output")}

    experiment = parse(small)

    assert experiment.train == TrainSettings()
    assert experiment.proxy.name is None
    assert experiment.proxy.options == {}
    assert experiment.evaluate == EvaluateTable()
    assert all(getattr(experiment.evaluate, field.name) == field.default for field in fields(EvaluateSettings))
    assert parse_proxy_fitting_of(tables).fit == FitProxySettings()


def parse_proxy_fitting_of(tables: Tables) -> Any:
    return parse_proxy_fitting({"codec": tables["codec"], "data": tables["data"]["train"]})


@pytest.mark.parametrize("key", ["evaluate.chooser", "chooser"])
def test_a_wrong_value_in_a_table_of_a_table_is_told_by_its_place(tables: Tables, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tables, f"{key}.fit_images=1")
    assert caught.value.where == f"mine.toml, {key}.fit_images"
    with pytest.raises(ConfigError) as caught:
        parse(tables, f"{key}.panel.mine.nmae='fake'")
    assert caught.value.where == f"mine.toml, {key}.panel.mine.name"


@pytest.mark.parametrize("field", fields(EvaluateSettings), ids=lambda field: field.name)
def test_every_setting_of_the_evaluator_is_a_key(tables: Tables, field: Any) -> None:
    given = {"ladder": [5, 10.0], "anchor_ladder": [5], "workers": 3, "baselines": ["blur"]}
    value = given.get(field.name, field.default)
    tables["evaluate"] = {field.name: value}

    read = getattr(parse(tables).evaluate, field.name)

    assert read == (tuple(value) if isinstance(value, list) else value)


def test_judges_are_tables_of_components(tables: Tables) -> None:
    tables["evaluate"] = {"judges": {"other": {"name": "fake", "classes": 2, "load": "a.safetensors"}}}

    judges = parse(tables).evaluate.judges

    assert {label: (table.name, table.options, table.load) for label, table in judges.items()} == {
        "other": ("fake", {"classes": 2}, Path("a.safetensors"))
    }


@pytest.mark.parametrize("field", fields(TrainSettings), ids=lambda field: field.name)
def test_every_setting_of_the_trainer_is_a_key(tables: Tables, field: Any) -> None:
    value = {"ladder": [5, 10.0], "lambdas": {"5": 0.5}, "codec_workers": 3}.get(field.name, field.default)
    tables["train"] = {field.name: list(value) if isinstance(value, tuple) else value}

    read = getattr(parse(tables).train, field.name)

    assert read == {"ladder": (5.0, 10.0), "lambdas": {5.0: 0.5}}.get(field.name, value)


def test_every_setting_of_the_fits_is_a_key(tables: Tables) -> None:
    task = FitTaskSettings(
        epochs=3, batch_size=2, learning_rate=1, weight_decay=0, clip_norm=2.0, seed=1, skip_unreadable=True, workers=1
    )
    proxy = FitProxySettings(
        ladder=(5, 10.0), steps=3, batch_size=2, learning_rate=0.5, crops=(8,), seed=1, skip_unreadable=True
    )
    for name, settings in (("task", task), ("proxy", proxy)):
        tables[name]["fit"] = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()}

    experiment = parse(tables)

    assert (experiment.task.fit, experiment.proxy.fit) == (task, proxy)


def test_options_of_a_component_are_its_other_keys(tables: Tables) -> None:
    tables["codec"] |= {"level": 3}
    tables["task"] |= {"classes": 2, "fit": {"epochs": 1}, "load": "a.safetensors"}

    experiment = parse(tables)

    assert experiment.codec.options == {"level": 3}
    assert experiment.task.options == {"classes": 2}
    assert experiment.task.load == Path("a.safetensors")


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("trian.steps=3", "trian", "'train'"),
        ("train.stepz=3", "train.stepz", "'steps'"),
        ("evaluate.replicate=3", "evaluate.replicate", "'replicates'"),
        ("data.vall.name=x", "data.vall", "'val'"),
        ("output.foldr=x", "output.foldr", "'folder'"),
        ("task.fit.epoch=3", "task.fit.epoch", "'epochs'"),
        ("proxy.fit.step=3", "proxy.fit.step", "'steps'"),
        ("evaluate.chooser.shiped=['nanodet']", "evaluate.chooser.shiped", "'shipped'"),
        ("chooser.trusst=0.5", "chooser.trusst", "'trust'"),
        ("evaluate.baselines=[{nmae='blur'}]", "evaluate.baselines.0.nmae", "'name'"),
        ("qqqqqqq=3", "qqqqqqq", "Known: 'chooser', 'codec'"),
    ],
)
def test_an_unknown_key_is_refused_with_file_path_and_the_nearest_one(
    tables: Tables, override: str, key: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tables, override)

    assert caught.value.where == f"mine.toml, {key}"
    assert caught.value.expected == "a known key"
    assert hint in caught.value.remedy


@pytest.mark.parametrize(
    ("override", "key", "expected", "got"),
    [
        ("train.steps=many", "train.steps", "a whole number", "'many'"),
        ("train.steps=1.5", "train.steps", "a whole number", "1.5"),
        ("train.steps=true", "train.steps", "a whole number", "True"),
        ("train.learning_rate='1'", "train.learning_rate", "a number", "'1'"),
        ("train.channels_last=1", "train.channels_last", "true or false", "1"),
        ("train.precision=32", "train.precision", "a string", "32"),
        ("train.ladder=5", "train.ladder", "a list", "5"),
        ("train.ladder=[5, true]", "train.ladder.1", "a number", "True"),
        ("train.lambdas=5", "train.lambdas", "'auto' or a table", "5"),
        ("train.lambdas={5='x'}", "train.lambdas.5", "a number", "'x'"),
        ("train.targets=theirs", "train.targets", "'dataset' or 'pseudo-labels'", "'theirs'"),
        ("train=3", "train", "a table", "3"),
        ("codec=jpeg", "codec", "a table", "'jpeg'"),
        ("codec.name=3", "codec.name", "a string", "3"),
        ("evaluate.baselines=[3]", "evaluate.baselines.0", "a string or a table", "3"),
        ("evaluate.replicates=-1", "evaluate.replicates", "a whole number of 0 or more", "-1"),
        ("task.fit.epochs=0", "task.fit.epochs", "a whole number of 1 or more", "0"),
        ("output.tensorboard=1", "output.tensorboard", "'auto' or true or false", "1"),
        ("data.held_out.count=3", "data.held_out.name", "a value", "none"),
    ],
)
def test_a_wrong_value_is_told_with_key_expectation_and_value(
    tables: Tables, override: str, key: str, expected: str, got: str
) -> None:
    del tables["train"]["ladder"], tables["train"]["lambdas"]
    with pytest.raises(ConfigError) as caught:
        parse(tables, override)

    assert (caught.value.where, caught.value.expected, caught.value.got) == (f"mine.toml, {key}", expected, got)


@pytest.mark.parametrize(
    ("override", "key"),
    [("train.steps=0", "train.steps"), ("train.train=['tsk']", "train.train"), ("train.beta=-1", "train.beta")],
)
def test_a_setting_out_of_its_range_is_told_by_its_key(tables: Tables, override: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tables, override)

    assert caught.value.where == f"mine.toml, {key}"


def test_a_missing_table_is_named_and_the_others_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"mine.toml, codec: expected a value; got none.*4 more wrong keys") as caught:
        parse({"train": {"steps": 3}})

    assert "has no default" in caught.value.remedy


def test_a_long_value_is_cut_short_in_the_message(tables: Tables) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tables, f"train.steps={list(range(1000))}")

    assert len(caught.value.got) <= 100


def test_an_experiment_is_frozen(tables: Tables) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse(tables).codec.name = "other"


def test_a_file_and_a_folder_are_read(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")

    from_file, from_folder = load_experiment(path, ["train.steps=5"]), load_experiment(tmp_path)

    assert from_file.origin == from_folder.origin == str(path)
    assert (from_file.train.steps, from_folder.train.steps) == (5, 8)


@pytest.mark.parametrize(
    ("content", "got"), [(None, "No such file"), ("a = = 1", "line 1"), (b"\xff", "codec can't decode")]
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: str | bytes | None, got: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ConfigError) as caught:
        load_experiment(path)

    assert caught.value.where == str(path)
    assert got in caught.value.got


def test_what_is_written_down_reads_back_the_same(tables: Tables) -> None:
    tables["codec"] |= {"odd": 'a "quoted" \\ line\nand \x7f, ü, 😀', "small": 1e-7, "big": 1e16, "list": [1, [2.5]]}
    tables["task"] |= {"fit": {"epochs": 2}, "load": "weights/a b.safetensors"}
    tables["data"]["held_out"] = {
        "name": "fake",
        "with space": True,
        "inline": [{"a": 1, "b c": []}],
        "deep": {"x": {}},
    }
    tables["train"]["lambdas"] = {"5": 0.5, "30": 2.0, "7.5": 1.0}
    experiment = parse(tables)

    text = dump_experiment(experiment)

    again = parse_experiment(tomllib.loads(text), origin="mine.toml")
    assert again == experiment
    assert again.codec.options == experiment.codec.options
    assert isinstance(again.codec.options["big"], float)
    assert again.train.lambdas == {5.0: 0.5, 7.5: 1.0, 30.0: 2.0}
    assert set(tomllib.loads(text)["train"]) == {key for key, value in asdict(again.train).items() if value is not None}


@pytest.mark.parametrize(("value", "told"), [(object(), "an object of object"), ([1, None], "None in a list")])
def test_what_is_no_toml_is_not_written(value: object, told: str, tables: Tables) -> None:
    experiment = parse(tables)
    codec = experiment.codec.model_copy(update={"odd": value})
    with pytest.raises(ConfigError, match=rf"odd.*got {told}"):
        dump_experiment(experiment.model_copy(update={"codec": codec}))


def test_an_option_that_is_none_is_written_and_read_as_none(tables: Tables) -> None:
    tables["data"]["val"] |= {"split": None, "deep": {"x": None}}
    text = dump_experiment(parse(tables))
    again = parse_experiment(tomllib.loads(text), origin="mine.toml")
    assert again.data.val.options["split"] == NONE  # the component's own signature says what it may be

    class Parts(FakeDataset):
        def __init__(self, *, split: str | None = "train", size: int | None = 3, name: str = "n") -> None: ...

    assert check_options(Parts, {"split": NONE, "size": NONE, "name": NONE}, "x") == {
        "split": None, "size": None, "name": NONE
    }  # fmt: skip


def test_none_is_a_word_for_every_key_that_may_be_none(tables: Tables) -> None:
    overrides = ("train.ladder=none", "proxy.load=none", "evaluate.ladder=none", "data.held_out=none")
    experiment = parse(tables, *overrides)
    assert (experiment.train.ladder, experiment.proxy.load, experiment.data.held_out) == (None, None, None)
    assert experiment.data.held_out is experiment.evaluate.ladder is None
    with pytest.raises(ConfigError, match=r"train\.steps"):
        parse(tables, "train.steps=none")


def test_what_is_none_against_its_default_is_written() -> None:
    @dataclass(frozen=True)
    class Record:
        left: int | None = None
        kept: int | None = 3
        needed: int | None = field(kw_only=True)

    assert tables_of(Record(None, None, needed=None)) == {"kept": NONE, "needed": NONE}
    assert tables_of(Record(1, 2, needed=4)) == {"left": 1, "kept": 2, "needed": 4}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_is_read(tables: Tables, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.toml").write_text(tomli_w.dumps(tables), encoding=encoding)
    assert load_experiment(tmp_path / "x.toml").model_dump() == parse(tables).model_dump()


def test_a_whole_number_may_have_a_point(tables: Tables) -> None:
    assert parse(tables, "train.steps=6.0", "evaluate.seed=2.0").train.steps == 6
    with pytest.raises(ConfigError, match=r"train\.steps: expected a whole number; got 6\.5"):
        parse(tables, "train.steps=6.5", "evaluate.seed=2.0")


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ('train.steps="10"', "Write it without quotes."),
        ('train.channels_last="true"', "Write it without quotes."),
        ("train.steps=many", "Give a whole number, or leave it out for its default."),
        ("train.targets=datset", "Did you mean 'dataset'?"),
        ("train.steps=[1]", "Give a whole number"),
    ],
)
def test_a_wrong_value_comes_with_what_to_do(override: str, remedy: str, tables: Tables) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tables, override)
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train.steps=100", {"train": {"steps": 100}}),
        (" train.steps = 1_000 ", {"train": {"steps": 1000}}),
        ("a.b=0.5", {"a": {"b": 0.5}}),
        ("a=true", {"a": True}),
        ("a=[1, 2.5]", {"a": [1, 2.5]}),
        ("a={5 = 0.5}", {"a": {"5": 0.5}}),
        ('a."b c"="x=y"', {"a": {"b c": "x=y"}}),
        ("codec.subsampling=4:2:0", {"codec": {"subsampling": "4:2:0"}}),
        ("output.folder=runs/a b", {"output": {"folder": "runs/a b"}}),
        ("output.folder=2020-01-01", {"output": {"folder": "2020-01-01"}}),
        ("a=", {"a": ""}),
        ("a=[1, 2020-01-01]", {"a": "[1, 2020-01-01]"}),
    ],
)
def test_an_override_is_toml_and_a_bare_word_is_a_string(text: str, tables: Tables) -> None:
    assert parse_override(text) == tables


@pytest.mark.parametrize("text", ["train.steps", "=3", "a b=3", "a=1\nb=2", "[a]=3"])
def test_an_override_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected key\.path=value"):
        parse_override(text)


def test_overrides_are_laid_over_the_file_in_order(tables: Tables) -> None:
    before = tomli_w.dumps(tables)

    experiment = parse(tables, "train.steps=5", "data.train.count=7", "train.steps=6", "train.lambdas=auto")

    assert (experiment.train.steps, experiment.train.batch_size, experiment.train.lambdas) == (6, 4, "auto")
    assert experiment.data.train.options == {"count": 7}
    assert experiment.data.val.options == {"count": 12, "seed": 1}
    assert tomli_w.dumps(tables) == before  # the caller's tables stay as they are


def test_merged_tables_replace_what_is_no_table() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": {"e": 4}}, "d": {"f": 5}}) == {
        "a": {"b": {"e": 4}, "c": 2},
        "d": {"f": 5},
    }


@pytest.mark.parametrize("reader", [parse_experiment, parse_proxy_fitting])
def test_python_callers_may_leave_the_origin_out(reader: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"^(experiment|fit-proxy), codec: expected a table"):
        reader({"codec": 3})


def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    with pytest.raises(ConfigError, match=r"a TOML file; got .*a pointer of git-lfs"):
        load_experiment(tmp_path / "a.toml")
