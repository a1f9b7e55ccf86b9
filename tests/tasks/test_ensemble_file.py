"""An ensemble in an experiment file: each member a table of its own."""

import pytest

from precomp_sdk import ConfigError, EnsembleTask, Label, OptionError, Registry, builtin
from precomp_sdk.config import load_experiment, parse_experiment
from precomp_sdk.run import run_evaluation, run_training
from precomp_sdk.run.build import build
from precomp_sdk.testing import FakeTask
from precomp_sdk.training import save_module


@pytest.fixture
def registry(doubles):
    doubles.register(builtin)
    return doubles


@pytest.fixture
def with_ensemble(tables):
    def make(**task):
        members = {"sure": {"name": "fake"}, "unsure": {"name": "fake", "sharpness": 4.0}}
        return {**tables, "task": {"name": "ensemble", "members": members, **task}}

    return make


def test_members_are_constructed_by_name(with_ensemble, registry):
    task = build(parse_experiment(with_ensemble(weights={"sure": 3.0})), registry).task
    assert isinstance(task, EnsembleTask)
    assert [type(member) for member in task.members.values()] == [FakeTask, FakeTask]
    assert task.members["unsure"].sharpness == 4.0
    assert task.weights == {"sure": 3.0, "unsure": 1.0}
    assert task.target_kind == Label.kind


def test_a_member_loads_its_own_weights_and_overrides_reach_it(with_ensemble, registry, tmp_path):
    trained = FakeTask()
    trained.filters.data *= 2.0
    save_module(tmp_path / "mine.safetensors", trained, name="fake", options={}, facts={})
    overrides = [f"task.members.sure.load={tmp_path / 'mine.safetensors'}", "task.members.unsure.sharpness=5.0"]
    task = build(parse_experiment(with_ensemble(), overrides=overrides), registry).task
    assert bool((task.members["sure"].filters == trained.filters).all())
    assert task.members["unsure"].sharpness == 5.0


def test_a_preprocessor_is_trained_and_evaluated_for_all_of_them(with_ensemble, registry, tmp_path):
    experiment = parse_experiment(with_ensemble())
    outcome = run_training(experiment, registry)
    again = load_experiment(outcome.folder)
    assert again.task.options["members"]["unsure"] == {"name": "fake", "sharpness": 4.0}
    evaluation = run_evaluation(again, registry)
    assert set(evaluation.clean.scores) == {"mean", "sure/top1", "sure/top5", "unsure/top1", "unsure/top5"}
    assert '"sure/top1"' in (outcome.folder / "results.json").read_text()


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ({"members": 3}, ConfigError, "experiment, task.members: expected a table for each"),
        ({"members": {"a": "fake"}}, ConfigError, "task.members: expected a table for each"),
        ({"members": {"a": {}}}, ConfigError, "task.members.a: expected a table with the name of a component.*got {}"),
        ({"members": {"a": {"name": "fake", "sharpnes": 1.0}}}, ConfigError, "task.members.a.sharpnes.*'sharpness'"),
        ({"members": {"a": {"name": "fake", "sharpness": "x"}}}, ConfigError, "task.members.a.sharpness"),
        ({"members": {"a": {"name": "fake"}}, "weights": {"b": 1.0}}, OptionError, "task: .*option 'weights'"),
        ({"members": {"a": {"name": "fake"}}, "weights": "x"}, ConfigError, "task.weights"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(with_ensemble, registry, task, error, message):
    with pytest.raises(error, match=message):
        build(parse_experiment(with_ensemble(**task)), registry)


def test_members_have_no_default(tables, registry):
    with pytest.raises(ConfigError, match=r"task\.members: expected a value; got none"):
        build(parse_experiment({**tables, "task": {"name": "ensemble"}}), registry)


def test_an_unknown_member_name_is_answered_with_the_nearest(with_ensemble, registry):
    from precomp_sdk import UnknownNameError

    with pytest.raises(UnknownNameError, match=r"task.members.a.name: .*got 'fale'\. Did you mean 'fake'"):
        build(parse_experiment(with_ensemble(members={"a": {"name": "fale"}})), registry)


def test_installed_plugins_include_the_packages_own():
    assert "ensemble" in Registry().tasks
