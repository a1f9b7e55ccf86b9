import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from precomp_sdk import Codec, Event, MissingDependencyError, Registry, StepDone, cli, hookimpl
from precomp_sdk.config._toml import to_toml
from precomp_sdk.evaluation import read_results
from precomp_sdk.observers import TensorBoardObserver
from precomp_sdk.run import read_record
from precomp_sdk.testing import FakeCodec, FakeProxy
from precomp_sdk.training import read_module

Call = Callable[..., Result]


class Watcher:
    """Keeps what it sees; raises at a step where it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stop_at: int | None = None

    @hookimpl
    def precomp_on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StepDone) and event.stage == "train" and event.step == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def watcher(doubles: Registry) -> Watcher:
    watcher = Watcher()
    doubles.register(watcher, "watcher")
    return watcher


@pytest.fixture
def call(doubles: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line with the stand-ins, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, registry: Registry | None = doubles) -> Result:
        return CliRunner().invoke(cli.app, list(arguments), obj=registry)

    return invoke


@pytest.fixture
def mine(tables: dict[str, Any], tmp_path: Path) -> Path:
    tables["output"]["folder"] = "run"
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(tables), encoding="utf-8")
    return path


def gain(folder: Path) -> float:
    return read_module(folder / "preprocessor.safetensors").weights["gain"].item()


def test_train_and_evaluate_do_the_whole_job(call: Call, mine: Path, tmp_path: Path, watcher: Watcher) -> None:
    trained = call("train", "mine.toml", "--set", "train.steps=6", "--set", "evaluate.baselines=['blur']")
    told = len(watcher.events)
    evaluated = call("evaluate", "run")

    assert (trained.exit_code, evaluated.exit_code) == (0, 0), trained.output + evaluated.output
    assert "by quality:\n  5: " in trained.stdout
    assert "next: precomp evaluate run" in trained.stdout
    assert "train: step 6, relative objective" in trained.stderr
    assert "BD-rate against plain" in evaluated.stdout
    assert "results and plots: run" in evaluated.stdout
    assert 0 < told < len(watcher.events)  # plugins hear of both
    assert [curve.label for curve in read_results(tmp_path / "run" / "results.json").curves] == [
        "plain",
        "fake",
        "blur",
    ]
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert len(log) == len(watcher.events)
    assert read_record(tmp_path / "run")["training"]["experiment"]["train"]["steps"] == 6
    assert read_record(tmp_path / "run")["training"]["command"].split()[0] == "precomp"


def test_output_and_weights_may_be_given(call: Call, mine: Path, tmp_path: Path) -> None:
    assert call("train", "mine.toml", "--output", "a b").exit_code == 0
    done = call("evaluate", "mine.toml", "--weights", "a b/preprocessor.safetensors", "--output", "there")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "there" / "results.json").exists()
    assert not (tmp_path / "run").exists()
    assert "next: precomp evaluate 'a b'" in call("train", "a b", "--overwrite").stdout


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    call: Call, mine: Path, tmp_path: Path, watcher: Watcher
) -> None:
    assert call("train", "mine.toml", "--output", "whole").exit_code == 0
    watcher.stop_at = 5
    interrupted = call("train", "mine.toml")
    watcher.stop_at = None
    resumed = call("train", "run", "--resume")

    assert interrupted.exit_code == 130
    assert interrupted.stderr.endswith("precomp: interrupted; --resume goes on from the last checkpoint\n")
    assert resumed.exit_code == 0, resumed.output
    assert gain(tmp_path / "run") == gain(tmp_path / "whole") != 0.0
    log = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log if line["event"] == "StepDone"]
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8]  # the log goes on


def test_a_second_run_does_not_replace_the_first_in_silence(call: Call, mine: Path) -> None:
    assert call("train", "mine.toml").exit_code == 0

    refused = call("train", "mine.toml")

    assert refused.exit_code == 1
    assert "--resume" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert call("train", "mine.toml", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.toml"], "none.toml: expected a TOML file; got No such file or directory."),
        (["train", "mine.toml", "--set", "train.stepz=1"], "mine.toml, train.stepz: expected a known key"),
        (["train", "mine.toml", "--set", "train.steps=x"], "mine.toml, train.steps: expected a whole number; got 'x'."),
        (["train", "mine.toml", "--set", "codec.name=fke"], "mine.toml, codec.name: expected the name of a codec"),
        (["train", "mine.toml", "--set", "codec.lvl=1"], "mine.toml, codec.lvl: expected a known option"),
        (["train", "mine.toml", "--set", "train.ladder=[500]"], "a whole number from 1 to 100; got 500.0."),
        (["train", "mine.toml", "--set", "data.val.labelled=false"], "mine.toml, data.val: expected targets of kind"),
        (["train", "mine.toml", "--set", "steps"], "override 'steps': expected key.path=value"),
        (["evaluate", "mine.toml"], "run/preprocessor.safetensors: expected a weights file"),
        (["evaluate", "mine.toml", "--weights", "mine.toml"], "mine.toml: expected a weights file"),
        (["quickstart", "--set", "train.stepz=1"], "quickstart.toml, train.stepz: expected a known key"),
        (["fit-proxy", "--codec", "fake", "--data", ".", "--output", "p"], "fit-proxy, data.name: expected the name"),
        (["train", "mine.toml", "--output", "mine.toml"], "mine.toml"),  # a file where a folder should be
    ],
)
def test_an_error_is_one_clear_message(call: Call, mine: Path, arguments: list[str], message: str) -> None:
    result = call(*arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("precomp: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_traceback_is_shown_on_request_only(call: Call) -> None:
    assert isinstance(call("train", "none.toml").exception, SystemExit)
    assert type(call("--traceback", "train", "none.toml").exception).__name__ == "ConfigError"


@pytest.mark.parametrize("arguments", [["train"], ["trian"], ["train", "x.toml", "--rezume"], ["fit-proxy"]])
def test_wrong_usage_is_exit_code_2(call: Call, arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_plugins_are_listed_with_package_version_and_state(call: Call) -> None:
    result = call("plugins", registry=None)  # the installed ones

    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["codec", "jpeg", "precomp-sdk"] in [row[:3] for row in rows]
    assert {row[0] for row in rows[1:] if row} >= {"codec", "proxy", "preprocessor", "task", "dataset"}
    jpeg = next(row for row in rows if row[:2] == ["codec", "jpeg"])
    assert jpeg[3][0].isdigit()
    assert jpeg[4] == "ok"


def test_plugins_that_did_not_load_are_told_with_their_error(
    call: Call, doubles: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EntryPoint:
        dist = None

        def __init__(self, name: str, error: Exception) -> None:
            self.name = self.value = name
            self._error = error

        def load(self) -> object:
            raise self._error

    missing = MissingDependencyError(where="heic", expected="pillow-heif", got="none", remedy="pip install it.")
    found = [EntryPoint("heic", missing), EntryPoint("odd", ZeroDivisionError("by zero"))]
    monkeypatch.setattr("precomp_sdk.registry.entry_points", lambda group: found)
    registry = Registry()

    table, as_json = call("plugins", registry=registry), call("plugins", "--json", registry=registry)

    assert table.exit_code == 0
    assert "plugin 'heic' is unavailable: heic: expected pillow-heif; got none. pip install it." in table.stdout
    assert "plugin 'odd' of (unknown package): expected odd to load; got ZeroDivisionError: by zero" in table.stdout
    told = {item["name"]: item for item in json.loads(as_json.stdout)["plugins"]}
    assert (told["heic"]["state"], told["odd"]["state"]) == ("unavailable", "broken")


def test_a_component_is_checked_by_its_name(call: Call, tmp_path: Path) -> None:
    kept = call("check", "fake", "--kind", "codec", "--set", "level=1")
    as_json = call("check", "fake", "--kind", "dataset", "--set", "count=5", "--json")
    proxy = call("check", "fake", "--kind", "proxy", "--set", "codec.level=2", "--codec", "fake")

    assert (kept.exit_code, as_json.exit_code, proxy.exit_code) == (0, 0, 0), kept.output + proxy.output
    assert kept.stdout == "codec 'fake': 16 of 16 promises kept\n"
    assert proxy.stdout == "proxy 'fake': 16 of 16 promises kept\n"
    told = json.loads(as_json.stdout)
    assert (told["kind"], told["name"], told["failures"]) == ("dataset", "fake", 0)
    assert told["class"] == "precomp_sdk.testing.doubles.FakeDataset"
    assert {item["number"]: item["outcome"] for item in told["promises"]}["D5"] == "not applicable"


def test_a_broken_promise_fails_the_check_unless_it_is_excused(call: Call) -> None:
    starts_as_blur = ("check", "fake", "--kind", "preprocessor", "--set", "gain=0.5")

    broken = call(*starts_as_blur)
    excused = call(*starts_as_blur, "--excuse", "N2=a blur is = wanted")
    stale = call("check", "fake", "--kind", "preprocessor", "--excuse", "N2=a blur", "--json")

    assert (broken.exit_code, excused.exit_code, stale.exit_code) == (1, 0, 1)
    assert broken.stdout.startswith("N2 broken: A fresh one changes no sample")
    assert "N2 excused" in excused.stdout
    assert "a blur is = wanted (expected" in excused.stdout
    assert json.loads(stale.stdout)["failures"] == 1


def test_weights_can_be_checked(call: Call, mine: Path) -> None:
    assert call("train", "mine.toml").exit_code == 0

    checked = call("check", "fake", "--kind", "preprocessor", "--load", "run/preprocessor.safetensors")

    assert (checked.exit_code, checked.stdout.split(":")[0]) == (1, "N2 broken")  # it was trained, so it moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fak"], "check: expected the name of a component; got 'fak'. Did you mean 'fake'?"),
        (["zzz", "--kind", "codec"], "expected the name of a codec; got 'zzz'. Known: 'fake'."),
        (
            ["fake"],
            "expected a name of one kind; got one of codec, proxy, preprocessor, task, dataset. Say which: --kind",
        ),
        (["fake", "--kind", "codek"], "check: expected a kind of component; got 'codek'. Did you mean 'codec'?"),
        (["fake", "--kind", "codec", "--set", "lvl=1"], "check of codec 'fake', codec.lvl: expected a known option"),
        (["fake", "--kind", "codec", "--set", "level"], "override 'level': expected key.path=value"),
        (["fake", "--kind", "proxy", "--set", "codec=jpeg"], "check of proxy 'fake': expected options of the codec"),
        (
            ["fake", "--kind", "proxy", "--codec", "jpg"],
            "check of proxy 'fake', codec.name: expected the name of a codec",
        ),
        (["fake", "--kind", "task", "--codec", "fake"], "check of task 'fake': expected no codec; got fake."),
        (["fake", "--kind", "codec", "--load", "x"], "check of codec 'fake': expected no weights; got x."),
        (["fake", "--kind", "task", "--load", "x"], "task.load: x: expected a weights file"),
        (["fake", "--kind", "codec", "--excuse", "C1"], "expected_failures['C1']: expected the number of a promise"),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_line(call: Call, arguments: list[str], message: str) -> None:
    result = call("check", *arguments)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("precomp: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_proxy_of_any_codec_is_told_which(call: Call, doubles: Registry) -> None:
    class Learned(FakeProxy):
        name = "learned"
        codec_name = "*"

    class Plugin:
        @hookimpl
        def precomp_register_proxies(self) -> list[Any]:
            return [Learned]

    doubles.register(Plugin(), "learned")

    assert "expected the codec to stand in for; got none" in call("check", "learned").stderr
    assert call("check", "learned", "--codec", "fake").exit_code == 0


def test_a_check_of_an_unknown_name_mentions_what_did_not_load(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class EntryPoint:
        dist = None
        name = value = "odd"

        def load(self) -> object:
            raise SystemExit(3)

    monkeypatch.setattr("precomp_sdk.registry.entry_points", lambda group: [EntryPoint()])

    result = call("check", "mine", registry=Registry())

    assert result.exit_code == 1
    assert "Plugins that did not load, see `precomp plugins`: odd of (unknown package)." in result.stderr


def test_plugins_as_json_have_every_component(call: Call, doubles: Registry) -> None:
    told = json.loads(call("plugins", "--json").stdout)

    assert [(item["kind"], item["name"]) for item in told["components"]] == [
        (item.kind, item.name) for item in doubles.components()
    ]
    assert {"package", "version", "state", "source", "plugin"} <= told["components"][0].keys()


def test_a_proxy_is_not_fitted_on_a_data_set_without_a_folder(call: Call) -> None:
    result = call(
        "fit-proxy", "--codec", "fake", "--data", "pictures", "--output", "p.safetensors", "--set", "data.name=fake"
    )

    assert result.exit_code == 1
    assert "fit-proxy, data.root: expected a known option" in result.stderr


def with_pictures(folder: Path) -> Registry:
    """Write three pictures; return the installed plugins and the double of a codec with its proxy."""
    from PIL import Image

    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (20, 16), (80 * index, 10, 30)).save(folder / f"{index}.png")
    registry = Registry()
    registry.register(_FakeCodecOnly(), "fake codec")
    return registry


def test_a_proxy_is_fitted_on_a_folder_of_pictures(call: Call, tmp_path: Path) -> None:
    registry = with_pictures(tmp_path / "pictures")

    result = call(
        *("fit-proxy", "--codec", "fake", "--data", "pictures", "--output", "new/p.safetensors", "--proxy", "fake"),
        *("--set", "fit.steps=2", "--set", "fit.batch_size=2", "--set", "data.crop=8"),
        registry=registry,
    )

    assert result.exit_code == 0, result.output
    assert "weights: new/p.safetensors" in result.stdout
    saved = read_module(tmp_path / "new" / "p.safetensors")
    assert (saved.name, saved.facts["codec"]) == ("fake", "fake")
    assert not torch.equal(saved.weights["log_scale"], torch.zeros(()))


class _FakeCodecOnly:
    @hookimpl
    def precomp_register_codecs(self) -> list[Any]:
        from precomp_sdk.testing import FakeCodec

        return [FakeCodec]

    @hookimpl
    def precomp_register_proxies(self) -> list[Any]:
        return [FakeProxy]


@pytest.mark.parametrize(("wanted", "written"), [("true", True), ("false", False), ('"auto"', True)])
def test_tensorboard_is_written_where_wanted(
    call: Call, mine: Path, tmp_path: Path, wanted: str, written: bool
) -> None:
    pytest.importorskip("tensorboard")

    assert call("train", "mine.toml", "--set", f"output.tensorboard={wanted}").exit_code == 0

    assert (tmp_path / "run" / "tensorboard").exists() is written


def test_a_missing_tensorboard_matters_only_where_it_is_asked_for(
    call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorBoardObserver, "available", staticmethod(lambda: False))

    asked = call("train", "mine.toml", "--set", "output.tensorboard=true")

    assert asked.exit_code == 1
    assert "pip install" in asked.stderr
    assert call("train", "mine.toml", "--set", "output.tensorboard=auto").exit_code == 0


def test_only_the_first_process_speaks(call: Call, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")

    result = call("train", "mine.toml")

    assert (result.exit_code, result.stdout) == (0, "")


def test_the_quickstart_shows_its_experiment(call: Call, tmp_path: Path) -> None:
    shown = call("quickstart", "--show")

    assert shown.exit_code == 0
    assert shown.stdout == files("precomp_sdk").joinpath("quickstart.toml").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


SMALL_QUICKSTART = (
    *("--set", "task.fit.epochs=1"),
    *("--set", "data.task.count=32"),
    *("--set", "data.train.count=20"),
    *("--set", "data.val.count=12"),
    *("--set", "train.steps=2"),
    *("--set", "train.batch_size=2"),
    *("--set", "train.ladder=[5, 30]"),
    *("--set", "train.lambdas={5 = 0.1, 30 = 1}"),
    *("--set", "train.held_out_images=4"),
    *("--set", "train.calibration_images=4"),
    *("--set", "evaluate.ladder=[5, 12, 30]"),
    *("--set", "evaluate.tuning_pictures=4"),
    *("--set", "evaluate.replicates=20"),
    *("--set", "output.tensorboard=false"),
)


def test_only_commands_that_resume_speak_of_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("precomp_sdk.cli.plugins.registry_of", stop)
    stopped = call("plugins")
    assert (stopped.exit_code, stopped.stderr) == (130, "precomp: interrupted\n")


def test_the_quickstart_does_the_whole_job(call: Call, tmp_path: Path) -> None:
    result = call("quickstart", "--seed", "7", *SMALL_QUICKSTART, registry=None)

    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "quickstart"
    assert {"results.json", "points.csv", "rate_accuracy.png", "rate_accuracy.svg", "run.json", "experiment.toml"} <= {
        path.name for path in folder.iterdir()
    }
    evaluation = read_results(folder / "results.json")
    assert [curve.label for curve in evaluation.curves] == ["plain", "qa-light", "blur", "downscale"]
    assert (evaluation.codec, evaluation.pictures) == ("jpeg", 12)
    assert evaluation.comparison("qa-light").statement in result.stdout
    record = read_record(folder)["training"]
    assert record["seeds"] == {"train": 7, "task.fit": 7, "evaluate": 7}
    data = record["experiment"]["data"]
    assert data["val"]["seed"] == 7
    assert data["task"]["seed"] != data["train"]["seed"]  # else it trains on what the task has memorised
    assert (data["task"]["seed"], data["train"]["seed"]) == (8, 9)
    assert record["components"]["codec jpeg"].startswith("precomp-sdk ")


def test_help_does_not_wait_for_what_it_does_not_need() -> None:
    heavy = ("torch", "numpy", "pydantic", "lightning_fabric", "matplotlib", "scipy", "tensorboard", "precomp_jpeg")
    code = f"import sys; import precomp_sdk.cli; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_proxy_is_measured_and_its_report_written(call: Call, tmp_path: Path) -> None:
    registry = with_pictures(tmp_path / "pictures")
    fit = ("--codec", "fake", "--data", "pictures", "--proxy", "fake")
    fitted = call(
        "fit-proxy",
        *fit,
        "--output",
        "p.safetensors",
        "--set",
        "fit.steps=1",
        "--set",
        "fit.batch_size=2",
        registry=registry,
    )
    assert fitted.exit_code == 0, fitted.output

    result = call("evaluate-proxy", *fit, "--load", "p.safetensors", "--output", "new/report.json", registry=registry)

    assert result.exit_code == 0, result.output
    assert "fake against fake" in result.stdout
    assert "| 5 |" in result.stdout
    assert json.loads((tmp_path / "new" / "report.json").read_text())["pictures"] == 3
    refused = call("evaluate-proxy", *fit, "--load", "p.safetensors", "--set", "codec.level=1", registry=registry)
    assert refused.exit_code == 1
    assert "proxy.load: p.safetensors: expected a proxy that was fitted to codec options" in refused.stderr


def test_a_codec_without_its_library_is_listed_as_unavailable(call: Call, doubles: Registry) -> None:
    class Lacking(FakeCodec):
        name = "lacking"

        def __init__(self, *, backend: str = "library") -> None:
            super().__init__()
            if backend == "library":
                raise MissingDependencyError(
                    where="lacking", expected="a library", got="none", remedy="pip install it."
                )

    class Plugin:
        @hookimpl
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [Lacking]

    doubles.register(Plugin(), "lacking")
    table, as_json = call("plugins"), json.loads(call("plugins", "--json").stdout)
    assert "codec 'lacking' is unavailable: lacking: expected a library; got none. pip install it." in table.stdout
    states = {item["name"]: item["state"] for item in as_json["components"] if item["kind"] == "codec"}
    assert states == {"fake": "ok", "lacking": "unavailable"}
    assert doubles.create("codec", "lacking", backend="program").name == "lacking"  # what works still does


def test_an_unfinished_run_is_not_evaluated_in_silence(call: Call, mine: Path, watcher: Watcher) -> None:
    watcher.stop_at = 6  # after the checkpoint of step 5
    assert call("train", str(mine), "--set", "train.checkpoint_every=5").exit_code != 0

    refused = call("evaluate", str(mine))
    assert refused.exit_code == 1
    assert "those of step 5" in refused.stderr
    assert "--resume" in refused.stderr

    measured = call("evaluate", str(mine), "--unfinished")
    assert measured.exit_code == 0, measured.output
    assert read_record(Path("run"))["evaluation"]["results"]["weights_step"] == 5


def test_resolutions_are_chosen_on_training_pictures(call: Call, mine: Path) -> None:
    chosen = call("choose-resolutions", str(mine), "--factor", "0.5", "--set", "train.lambda_scale=1e-9")
    assert chosen.exit_code == 0, chosen.output
    line = next(line for line in chosen.stdout.splitlines() if line.startswith("preprocessor.resolutions = "))
    points = json.loads(line.split(" = ")[1])
    assert points == sorted(points)
    assert {factor for _, factor in points} == {0.5}  # bits are all that counts
    assert chosen.stdout.count("chosen") == len(points)


def test_a_factor_out_of_range_is_told(call: Call, mine: Path) -> None:
    refused = call("choose-resolutions", str(mine), "--factor", "1.5")
    assert refused.exit_code == 1
    assert "above 0 and up to 1; got [1.5]" in refused.stderr
