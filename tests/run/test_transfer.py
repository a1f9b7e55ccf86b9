import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import precomp_qacnn
from precomp_sdk import CheckpointError, Codec, ConfigError, CurveError, Notice, Registry, TargetError, cli, hookimpl
from precomp_sdk.config import dump_transfer, load_transfer, parse_transfer
from precomp_sdk.evaluation import EvaluateSettings, evaluate, read_transfer
from precomp_sdk.run import run_transfer
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask
from precomp_sdk.training import save_module

Tables = dict[str, Any]


class Loose(FakeCodec):
    """Another codec: less effort, other bits."""

    name = "loose"

    def __init__(self, *, level: int = 1) -> None:
        super().__init__(level=level)


class More:
    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [Loose]


@pytest.fixture
def registry(doubles: Registry) -> Registry:
    doubles.register(More(), "more")
    return doubles


@pytest.fixture
def matrix(tmp_path: Path) -> Tables:
    return {
        "codecs": {"tight": {"name": "fake"}, "loose": {"name": "loose"}},
        "tasks": {"sharp": {"name": "fake"}, "dull": {"name": "fake", "sharpness": 10.0}},
        "preprocessors": {
            "smooth": {"name": "fake", "gain": 0.3, "codecs": ["tight"], "tasks": ["sharp"]},
            "nothing": {"name": "fake"},
        },
        "ladders": {"tight": [5, 15, 30, 50, 70], "loose": [5, 30]},
        "data": {"val": {"name": "fake", "count": 40, "seed": 2}},
        "evaluate": {"replicates": 30, "baselines": []},
        "output": {"folder": str(tmp_path / "out")},
    }


def test_every_cell_is_what_an_evaluation_gives(matrix: Tables, registry: Registry, tmp_path: Path) -> None:
    seen: list[str] = []
    result = run_transfer(parse_transfer(matrix), registry, observer=lambda event: seen.append(type(event).__name__))

    assert [(cell.preprocessor, cell.codec, cell.task) for cell in result.cells] == [
        (preprocessor, codec, task)
        for preprocessor in ("smooth", "nothing")
        for codec in ("tight", "loose")
        for task in ("sharp", "dull")
    ]
    for codec, label, ladder in ((FakeCodec(), "tight", (5, 15, 30, 50, 70)), (Loose(), "loose", (5, 30))):
        for task_label, sharpness in (("sharp", 40.0), ("dull", 10.0)):
            expected = evaluate(
                codec,
                FakeTask(sharpness=sharpness),
                FakeDataset(count=40, seed=2),
                preprocessors={"smooth": FakePreprocessor(gain=0.3)},
                settings=EvaluateSettings(ladder=ladder, baselines=(), replicates=30),
            )
            cell = result.cell("smooth", label, task_label)
            assert (cell.anchor, cell.curve) == expected.curves
            assert cell.comparisons == expected.comparisons
    assert result.codec_versions == dict.fromkeys(("tight", "loose"), FakeCodec().version)
    assert result.cell("smooth", "tight", "dull").main.metric == "top1"
    assert {cell.main.value_percent for cell in result.cells if cell.preprocessor == "nothing"} <= {0.0, None}
    assert [(cell.codec_in_loop, cell.task_in_loop, cell.in_loop) for cell in result.cells[:4]] == [
        *((True, True, True), (True, False, False), (False, True, False), (False, False, False)),
    ]
    assert not any(cell.codec_in_loop or cell.task_in_loop for cell in result.cells[4:])
    assert seen[0] == "RunStarted"
    assert seen.count("Notice") == 8
    assert seen[-1] == "RunFinished"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("transfer.csv", "transfer.html", "transfer.json", "transfer.png", "transfer.svg", "transfer.toml")
    ]


def test_the_files_hold_the_matrix(matrix: Tables, registry: Registry, tmp_path: Path) -> None:
    result = run_transfer(parse_transfer(matrix), registry, output=tmp_path / "here")

    folder = tmp_path / "here"
    rows = list(csv.DictReader((folder / "transfer.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 8 * 3  # top1, top5, task_loss
    first = result.cells[0].main
    assert first.interval is not None
    assert float(rows[0]["bd_rate_percent"]) == first.value_percent
    low = first.interval.low_percent
    assert rows[0]["low_percent"] == ("" if low is None else str(low))
    assert (rows[0]["metric"], rows[0]["codec_in_loop"]) == ("top1", "True")
    assert rows[2]["reason"] == result.cells[0].comparisons[2].reason
    told = json.loads((folder / "transfer.json").read_text(encoding="utf-8"))
    assert told["format"] == "precomp-transfer-1"
    assert read_transfer(folder / "transfer.json") == result
    with pytest.raises(CurveError, match="precomp-transfer-1; got no JSON"):
        read_transfer(folder / "transfer.csv")
    assert (folder / "transfer.png").read_bytes().startswith(b"\x89PNG")
    figure = (folder / "transfer.svg").read_text(encoding="utf-8")
    assert figure.count("stroke-dasharray") >= 2  # two cells with half a loop
    again = load_transfer(folder / "transfer.toml")
    assert dump_transfer(again) == dump_transfer(parse_transfer(matrix))
    summary = result.summary()
    assert "BD-rate on top1 against the anchor, fake: 40 images" in summary
    assert summary.count("codec and backbone") == 1


def test_the_command_prints_the_table(
    matrix: Tables, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(dump_transfer(parse_transfer(matrix)), encoding="utf-8")

    arguments = ["transfer", "mine.toml", "--set", "evaluate.replicates=0", "--output", "there"]
    done = CliRunner().invoke(cli.app, arguments, obj=registry)

    assert done.exit_code == 0, done.output
    assert "preprocessor  codec  backbone  in its loop" in done.stdout
    assert "results and figure: there" in done.stdout
    assert (tmp_path / "there" / "transfer.png").exists()


def test_mistakes_in_the_file_are_named(matrix: Tables, registry: Registry) -> None:
    def refused(error: type[Exception], match: str, **tables: Any) -> None:
        with pytest.raises(error, match=match):
            run_transfer(parse_transfer({**matrix, **tables}, origin="m.toml"), registry)

    smooth = matrix["preprocessors"]["smooth"]
    refused(ConfigError, "m.toml, preprocessors", preprocessors={})
    refused(
        ConfigError,
        r"m.toml, preprocessors.a.codecs: .*'tigth'. Did you mean 'tight'",
        preprocessors={"a": {**smooth, "codecs": ["tigth"]}},
    )
    refused(ConfigError, r"preprocessors.a.tasks", preprocessors={"a": {**smooth, "tasks": ["blunt"]}})
    refused(ConfigError, r"ladders.tight", ladders={"tight": [5]})
    refused(Exception, r"settings: .*'other'", ladders={"other": [5, 30]})
    refused(TargetError, "m.toml", data={"val": {"name": "fake", "labelled": False}})
    refused(ConfigError, "m.toml, evaluate.replicas", evaluate={"replicas": 3})


def test_notices_state_each_cell(matrix: Tables, registry: Registry) -> None:
    said: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, Notice):
            said.append(event.message)

    run_transfer(parse_transfer(matrix), registry, observer=listen)

    assert said[0].startswith("tight, sharp: smooth: ")


def test_weights_trained_at_another_resolution_are_refused(matrix: Tables, registry: Registry, tmp_path: Path) -> None:
    registry.register(precomp_qacnn, "qacnn")
    options: dict[str, Any] = {"width": 8, "depth": 1, "resolutions": [[0.5, 0.5]]}
    network = precomp_qacnn.LightQACNN(**options)
    path = tmp_path / "small.safetensors"
    save_module(path, network, name=network.name, options=network.options, facts={})
    matrix["preprocessors"] = {"small": {"name": "qa-light", "load": str(path), **options}}
    matrix["data"]["val"]["count"] = 6
    run_transfer(parse_transfer(matrix), registry)
    matrix["preprocessors"]["small"]["resolutions"] = []
    with pytest.raises(CheckpointError, match=r"preprocessors\.small\.resolutions: expected what the weights"):
        run_transfer(parse_transfer(matrix), registry)
