"""Commands that carry out experiments: train, choose resolutions, evaluate, quickstart, transfer."""

import json
import os
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from precomp_sdk.cli._shared import (
    Address,
    AsJSON,
    EngineName,
    Output,
    Overwrite,
    Resume,
    Settings,
    Trust,
    Workers,
    app,
    overrides_of,
    progress,
    registry_of,
    say,
    tell_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from precomp_sdk.config import Experiment
    from precomp_sdk.deploy import Explanation
    from precomp_sdk.evaluation import Evaluation
    from precomp_sdk.events import Event
    from precomp_sdk.registry import Registry
    from precomp_sdk.run import TrainingOutcome

__all__: list[str] = []

_PHOTO_QUALITY = 20.0


@app.command()
def train(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="A TOML file, or the folder of an earlier run.")],
    settings: Settings = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    output: Output = None,
    as_json: AsJSON = False,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="End with status 1 where the run ends worse than the anchor.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Train the preprocessor of an experiment."""
    from precomp_sdk.config import load_experiment

    folder = experiment if output is None and experiment.is_dir() else output
    loaded = load_experiment(experiment, overrides_of(settings, folder))
    typed = not experiment.is_dir()  # a file is the user's own word; a run's folder may come from anybody
    outcome = _train(ctx, loaded, resume, overwrite, trust=trust or typed)
    _tell_training(outcome, as_json=as_json)
    if fail_if_worse and outcome.result is not None and outcome.result.worse:
        raise typer.Exit(1)


@app.command("choose-resolutions")
def choose_resolutions(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="A TOML file.")],
    factors: Annotated[
        list[float] | None, typer.Option("--factor", help="Of height and width, to be tried. Repeatable.")
    ] = None,
    settings: Settings = None,
    output: Output = None,
    as_json: AsJSON = False,
) -> None:
    """Measure at which resolution the codec is best used, quality by quality, for a preprocessor's resolutions."""
    from precomp_sdk.config import load_experiment
    from precomp_sdk.observers import fan_out
    from precomp_sdk.run import run_choice
    from precomp_sdk.training import FACTORS, resolution_points

    registry = registry_of(ctx)
    loaded = load_experiment(experiment, overrides_of(settings, output))
    with progress(ctx) as shown:
        choices = run_choice(loaded, registry, factors=factors or FACTORS, observer=fan_out(shown, registry.notify))
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return
    if as_json:
        tell_json({"choices": choices, "resolutions": resolution_points(choices)})
        return
    table = Table("quality", "factor", "bpp", "task loss", "objective", box=None, pad_edge=False)
    for choice in choices:
        for tried in choice.tried:
            mark = " chosen" if tried.factor == choice.factor else ""
            row = (f"{tried.factor:g}", f"{tried.bpp:.4f}", f"{tried.task_loss:.4f}", f"{tried.objective:.3f}{mark}")
            table.add_row(f"{choice.quality:g}", *row)
    Console().print(table)
    say(f"preprocessor.resolutions = {json.dumps(resolution_points(choices))}")


@app.command()
def evaluate(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="The output folder of `precomp train`, or a TOML file.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of the preprocessor, instead of the run's.")] = None,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results, instead of the run's.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Measure a run that is not at its end yet.")] = False,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = None,
    trust: Trust = False,
    as_json: AsJSON = False,
) -> None:
    """Measure what a trained preprocessor saves, with the real codec."""
    from precomp_sdk.config import load_experiment

    folder = experiment if experiment.is_dir() else None
    who = {"engine": None if engine == "local" else engine, "engine_workers": workers, "engine_address": address}
    given = [f"evaluate.{key}={json.dumps(value)}" for key, value in who.items() if value is not None]
    loaded = load_experiment(experiment, [*given, *overrides_of(settings, folder)])
    evaluation = _evaluate(ctx, loaded, weights, output, unfinished, trust=trust)
    if as_json:
        tell_json(evaluation.without_images())
        return
    _tell_evaluation(evaluation, output or loaded.output.folder)


@app.command()
def quickstart(
    ctx: typer.Context,
    output: Output = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    settings: Settings = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    show: Annotated[bool, typer.Option("--show", help="Print the experiment file and do nothing.")] = False,
    photo: Annotated[
        Path | None, typer.Option(help="A photograph of yours, which is compressed at the end by what ships.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Do the whole job on drawn images: fit a task, train the preprocessor for JPEG, measure what it saves."""
    text = files("precomp_sdk").joinpath("quickstart.toml").read_text(encoding="utf-8")
    if show:
        typer.echo(text, nl=False)
        return
    from precomp_sdk.config import parse_experiment

    tables = tomllib.loads(text)
    seeds = [] if seed is None else [f"{key}.seed={seed}" for key in ("train", "evaluate", "task.fit")]
    if seed is not None:  # an offset: the task and the preprocessor must not see the same images
        seeds += [f"data.{name}.seed={table.get('seed', 0) + seed}" for name, table in tables["data"].items()]
    overrides = [*seeds, *overrides_of(settings, output)]
    experiment = parse_experiment(tables, origin="quickstart.toml", overrides=overrides)
    folder = experiment.output.folder
    outcome = _train(ctx, experiment, resume, overwrite)
    if not as_json:
        _tell_training(outcome)
    evaluation = _evaluate(ctx, experiment, None, None, trust=True)  # what it names is what the user typed
    if not as_json:
        _tell_evaluation(evaluation, folder)
    explained = None if photo is None else _explain_general(ctx, photo, folder)
    if as_json:
        facts = {**_training_facts(outcome), "evaluation": evaluation.without_images()}
        tell_json(facts if explained is None else {**facts, "photo": explained.facts})
    elif explained is None or photo is None:
        shown = "precomp compress general photo.jpg --quality 20 --output small.jpg"
        typer.echo(f"\nnext, a photograph of yours, for networks that nobody trained for: {shown}")
    else:
        told = f"by what ships for networks that nobody trained for: {explained.summary}"
        typer.echo(f"\n{photo}, {told}\nlook at {_page_of(photo, folder)}")


def _page_of(photo: Path, folder: Path) -> Path:
    return folder / f"{photo.stem}-explained.png"


def _explain_general(ctx: typer.Context, photo: Path, folder: Path) -> "Explanation":
    """Compress a photograph with the sender that ships, and draw what it did."""
    from precomp_sdk.deploy import Compressor, explain

    found = explain(Compressor.load("general", registry_of(ctx)), photo, _PHOTO_QUALITY)
    found.save(_page_of(photo, folder))
    return found


@app.command()
def transfer(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A TOML file with tables codecs, tasks and preprocessors.")],
    settings: Settings = None,
    output: Output = None,
    trust: Trust = False,
    as_json: AsJSON = False,
) -> None:
    """Score trained preprocessors on backbones and codecs they were trained with, and on others."""
    from precomp_sdk.config import load_transfer
    from precomp_sdk.observers import fan_out
    from precomp_sdk.run import leave_a_core, run_transfer

    leave_a_core()
    registry = registry_of(ctx)
    description = load_transfer(file, overrides_of(settings, output))
    with progress(ctx) as shown:
        matrix = run_transfer(description, registry, trust=trust, observer=fan_out(shown, registry.notify))
    if as_json:
        tell_json(matrix)
        return
    say(f"\n{matrix.summary()}\n\nresults and figure: {description.output.folder}")


def _train(
    ctx: typer.Context,
    experiment: "Experiment",
    resume: bool,
    overwrite: bool,
    *,
    trust: bool = True,
) -> "TrainingOutcome":
    from precomp_sdk.run import run_training

    registry = registry_of(ctx)
    with _observing(ctx, registry, experiment, experiment.output.folder, append=resume) as observer:
        return run_training(
            experiment,
            registry,
            resume=resume,
            overwrite=overwrite,
            trust=trust,
            observer=observer,
            command=_command(),
        )


def _training_facts(outcome: "TrainingOutcome") -> dict[str, object]:
    fits = {"task_fit": outcome.task_fit, "proxy_fit": outcome.proxy_fit}
    return {"folder": outcome.folder, **fits, "training": outcome.result}


def _tell_training(outcome: "TrainingOutcome", *, as_json: bool = False) -> None:
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return
    if as_json:
        tell_json(_training_facts(outcome))
        return
    if outcome.proxy_fit is not None and outcome.proxy_fit.doubt:
        say(f"proxy {outcome.components.proxy.name!r}: {outcome.proxy_fit.doubt}")
    if outcome.result is None:
        told = f"preprocessor {outcome.components.preprocessor.name!r} has nothing to train and is prepared"
        quoted = shlex.quote(str(outcome.folder))
        say(f"{told}; record: {outcome.folder}\nnext: precomp evaluate {quoted}, or precomp compress {quoted}")
        return
    scale = outcome.components.codec.quality_scale.name
    say(f"objective relative to the anchor's (below 1 is a gain), by {scale}:")
    say("  " + ", ".join(f"{quality:g}: {value:.3f}" for quality, value in outcome.result.relative.items()))
    say(f"the run ended {outcome.result.statement}")
    say(f"weights and record: {outcome.folder}\nnext: precomp evaluate {shlex.quote(str(outcome.folder))}")


def _evaluate(
    ctx: typer.Context,
    experiment: "Experiment",
    weights: Path | None,
    output: Path | None,
    unfinished: bool = False,
    *,
    trust: bool,
) -> "Evaluation":
    from precomp_sdk.run import run_evaluation

    registry = registry_of(ctx)
    folder = experiment.output.folder if output is None else output
    with _observing(ctx, registry, experiment, folder, append=True) as observer:
        return run_evaluation(
            experiment,
            registry,
            weights=weights,
            output=output,
            unfinished=unfinished,
            trust=trust,
            observer=observer,
            command=_command(),
        )


def _tell_evaluation(evaluation: "Evaluation", folder: Path) -> None:
    say(f"\n{evaluation.summary()}\n\nresults and plots: {folder}")


@contextmanager
def _observing(
    ctx: typer.Context, registry: "Registry", experiment: "Experiment", folder: Path, *, append: bool
) -> "Iterator[Callable[[Event], None]]":
    """Offer an observer that shows progress, writes the logs and tells the plugins."""
    from precomp_sdk.observers import fan_out
    from precomp_sdk.run import leave_a_core, open_logs

    leave_a_core()
    with ExitStack() as stack:
        shown = stack.enter_context(progress(ctx))
        logs = open_logs(experiment.output, folder, append=append)
        for log in logs:
            stack.enter_context(log)
        yield fan_out(shown, *logs, registry.notify)


def _command() -> str:
    return shlex.join(["precomp", *sys.argv[1:]])
