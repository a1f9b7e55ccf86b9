"""The command line. The only place that prints or exits; everything it does is a call of `precomp_sdk.run`."""

import json
import os
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from precomp_sdk.errors import PrecompError

if TYPE_CHECKING:
    from collections.abc import Callable

    from precomp_sdk.config import Experiment
    from precomp_sdk.events import Event
    from precomp_sdk.registry import Registry

# What takes long to import is imported by the command that needs it.

__all__ = ["app", "main"]

_INTERRUPTED = 130  # what shells give a program that ctrl-C ended


_RESUMABLE = ("train", "quickstart")


class _Group(TyperGroup):
    """Tells errors in one line, without a traceback unless asked for."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (PrecompError, OSError) as error:
            if ctx.params.get("traceback"):
                raise
            _complain(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            resumable = ctx.invoked_subcommand in _RESUMABLE
            _complain("interrupted; --resume goes on from the last checkpoint" if resumable else "interrupted")
            raise typer.Exit(_INTERRUPTED) from error


app = typer.Typer(
    name="precomp",
    cls=_Group,
    help="Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file, such as train.steps=100. Repeatable."),
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in the output folder.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older run in the output folder.")]
_Output = Annotated[Path | None, typer.Option("--output", help="Folder for the results, instead of output.folder.")]


@app.callback()
def _options(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Options of every command; `_Group` reads them."""


@app.command()
def plugins(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
) -> None:
    """List every codec, proxy, preprocessor, task and data set, and the plugins that did not load."""
    registry = _registry(ctx)
    rows = []
    for item in registry.components():
        missing = item.missing()
        rows.append(
            {
                "kind": item.kind,
                "name": item.name,
                "package": item.plugin.package,
                "version": item.plugin.version,
                "state": "unavailable" if missing else item.plugin.state,
                "plugin": item.plugin.name,
                "source": str(getattr(item.cls, "source", "")),
                "missing": missing,
            }
        )
    failed = [item for item in registry.plugins() if item.state != "ok"]
    if as_json:
        told = [{name: getattr(item, name) for name in item.__slots__} for item in registry.plugins()]
        typer.echo(json.dumps({"components": rows, "plugins": told}, indent=1))
        return
    table = Table("kind", "name", "package", "version", "state", "source", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(row[column] for column in ("kind", "name", "package", "version", "state", "source")))
    for plugin in failed:
        table.add_row("plugin", plugin.name, plugin.package, plugin.version, plugin.state, "")
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    for row in rows:
        if row["missing"]:
            typer.echo(f"\n{row['kind']} {row['name']!r} is unavailable: {row['missing']}")
    for plugin in failed:
        typer.echo(f"\nplugin {plugin.name!r} is {plugin.state}: {plugin.error}")


@app.command()
def train(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="A TOML file, or the folder of an earlier run.")],
    settings: _Settings = None,
    resume: _Resume = False,
    overwrite: _Overwrite = False,
    output: _Output = None,
) -> None:
    """Train the preprocessor of an experiment."""
    from precomp_sdk.config import load_experiment

    folder = experiment if output is None and experiment.is_dir() else output
    _train(_registry(ctx), load_experiment(experiment, _overrides(settings, folder)), resume, overwrite)


@app.command("choose-resolutions")
def choose_resolutions(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="A TOML file.")],
    factors: Annotated[
        list[float] | None, typer.Option("--factor", help="Of height and width, to be tried. Repeatable.")
    ] = None,
    settings: _Settings = None,
    output: _Output = None,
) -> None:
    """Measure at which resolution the codec is best used, quality by quality, for a preprocessor's resolutions."""
    from precomp_sdk.config import load_experiment
    from precomp_sdk.observers import ProgressObserver, fan_out
    from precomp_sdk.run import run_choice
    from precomp_sdk.training import FACTORS, resolution_points

    registry = _registry(ctx)
    loaded = load_experiment(experiment, _overrides(settings, output))
    with ProgressObserver() as progress:
        choices = run_choice(loaded, registry, factors=factors or FACTORS, observer=fan_out(progress, registry.notify))
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return
    table = Table("quality", "factor", "bpp", "task loss", "objective", box=None, pad_edge=False)
    for choice in choices:
        for tried in choice.tried:
            mark = " chosen" if tried.factor == choice.factor else ""
            row = (f"{tried.factor:g}", f"{tried.bpp:.4f}", f"{tried.task_loss:.4f}", f"{tried.objective:.3f}{mark}")
            table.add_row(f"{choice.quality:g}", *row)
    Console().print(table)
    typer.echo(f"preprocessor.resolutions = {json.dumps(resolution_points(choices))}")


@app.command()
def evaluate(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="The output folder of `precomp train`, or a TOML file.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of the preprocessor, instead of the run's.")] = None,
    settings: _Settings = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results, instead of the run's.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Measure a run that is not at its end yet.")] = False,
) -> None:
    """Measure what a trained preprocessor saves, with the real codec."""
    from precomp_sdk.config import load_experiment

    folder = experiment if experiment.is_dir() else None
    _evaluate(_registry(ctx), load_experiment(experiment, _overrides(settings, folder)), weights, output, unfinished)


@app.command()
def quickstart(
    ctx: typer.Context,
    output: _Output = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    settings: _Settings = None,
    resume: _Resume = False,
    overwrite: _Overwrite = False,
    show: Annotated[bool, typer.Option("--show", help="Print the experiment file and do nothing.")] = False,
) -> None:
    """Do the whole job on drawn pictures: fit a task, train the preprocessor for JPEG, measure what it saves."""
    text = files("precomp_sdk").joinpath("quickstart.toml").read_text(encoding="utf-8")
    if show:
        typer.echo(text, nl=False)
        return
    from precomp_sdk.config import parse_experiment

    tables = tomllib.loads(text)
    seeds = [] if seed is None else [f"{key}.seed={seed}" for key in ("train", "evaluate", "task.fit")]
    if seed is not None:  # an offset: the task and the preprocessor must not see the same pictures
        seeds += [f"data.{name}.seed={table.get('seed', 0) + seed}" for name, table in tables["data"].items()]
    overrides = [*seeds, *_overrides(settings, output)]
    experiment = parse_experiment(tables, origin="quickstart.toml", overrides=overrides)
    registry = _registry(ctx)
    _train(registry, experiment, resume, overwrite)
    _evaluate(registry, experiment, None, None)


@app.command("fit-proxy")
def fit_proxy(
    ctx: typer.Context,
    codec: Annotated[str, typer.Option(help="Name of the codec.")],
    data: Annotated[Path, typer.Option(help="Folder of pictures; no labels are needed.")],
    output: Annotated[Path, typer.Option(help="File for the weights, for proxy.load of an experiment.")],
    proxy: Annotated[str | None, typer.Option(help="Name of the proxy; default: the codec's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as codec.subsampling=4:4:4 or fit.steps=100."),
    ] = None,
) -> None:
    """Fit a proxy to its codec and write its weights."""
    from precomp_sdk.config import parse_proxy_fitting
    from precomp_sdk.observers import ProgressObserver, fan_out
    from precomp_sdk.run import run_proxy_fitting

    registry = _registry(ctx)
    tables = {
        "codec": {"name": codec},
        "proxy": {} if proxy is None else {"name": proxy},
        "data": {"name": "pictures", "root": str(data), "crop": 128, "augment": True},
    }
    fitting = parse_proxy_fitting(tables, overrides=settings or ())
    with ProgressObserver() as progress:
        result = run_proxy_fitting(fitting, registry, output, observer=fan_out(progress, registry.notify))
    typer.echo(
        f"{result.proxy} for {codec}: {result.fit.psnr_db:.1f} dB from its pictures, "
        f"{result.fit.bits_error:.1%} from its bits\nweights: {result.path}"
    )


@app.command("evaluate-proxy")
def evaluate_proxy(
    ctx: typer.Context,
    codec: Annotated[str, typer.Option(help="Name of the codec.")],
    data: Annotated[Path, typer.Option(help="Folder of pictures that the proxy was not fitted to.")],
    proxy: Annotated[str | None, typer.Option(help="Name of the proxy; default: the codec's.")] = None,
    load: Annotated[Path | None, typer.Option(help="Weights that `precomp fit-proxy` wrote.")] = None,
    output: Annotated[Path | None, typer.Option(help="File for the report, as JSON.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as data.crop=128 or evaluate.pictures=32."),
    ] = None,
) -> None:
    """Measure a proxy against its codec: pictures, bits, ranking, and where its gradients lead."""
    from precomp_sdk.config import parse_proxy_evaluation
    from precomp_sdk.observers import ProgressObserver, fan_out
    from precomp_sdk.run import run_proxy_evaluation
    from precomp_sdk.run.record import write_whole

    registry = _registry(ctx)
    chosen = {"name": proxy, "load": load}
    tables = {
        "codec": {"name": codec},
        "proxy": {key: str(value) for key, value in chosen.items() if value is not None},
        "data": {"name": "pictures", "root": str(data)},
    }
    evaluation = parse_proxy_evaluation(tables, overrides=settings or ())
    with ProgressObserver() as progress:
        report = run_proxy_evaluation(evaluation, registry, observer=fan_out(progress, registry.notify))
    if output is not None:
        write_whole(output, report.json())
    typer.echo(
        f"{report.proxy} against {codec} ({report.codec_version}), {report.pictures} pictures\n\n{report.table()}\n\n"
        f"rank correlation of bits over the ladder: {report.ladder_rank_correlation:.3f}"
        + (f"\nreport: {output}" if output else "")
    )


@app.command()
def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="The output folder of `precomp train`, or a weights file of it.")],
    output: Annotated[Path, typer.Option(help="A .safetensors file for `precomp compress`, or an .onnx file.")],
) -> None:
    """Write a trained preprocessor with its codec as one file, or as ONNX, and say what it costs."""
    from precomp_sdk.deploy import Compressor, measure_cost
    from precomp_sdk.training import WEIGHTS_FILE

    source = run / WEIGHTS_FILE if run.is_dir() else run
    sender = Compressor.load(source, _registry(ctx), observer=_tell_notice)
    sender.export_onnx(output) if output.suffix == ".onnx" else sender.save(output)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB\n{measure_cost(sender.preprocessor)}")


@app.command()
def compress(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `precomp export` or `precomp train` wrote.")],
    image: Annotated[Path, typer.Argument(help="A picture of 8-bit RGB or gray.")],
    quality: Annotated[float, typer.Option(help="On the codec's own scale.")],
    output: Annotated[Path, typer.Option(help="File for the payload.")],
) -> None:
    """Preprocess and encode one picture."""
    from precomp_sdk.deploy import Compressor, read_image

    picture = read_image(image)
    payload = Compressor.load(file, _registry(ctx), observer=_tell_notice).compress(picture, quality)
    output.write_bytes(payload)
    pixels = picture.shape[-2] * picture.shape[-1]
    typer.echo(f"{output}: {len(payload)} bytes, {8 * len(payload) / pixels:.3f} bits per pixel")


@app.command()
def decompress(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `precomp export` or `precomp train` wrote.")],
    payload: Annotated[Path, typer.Argument(help="What `precomp compress` wrote.")],
    output: Annotated[Path, typer.Option(help="PNG file for the picture.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of the source, where it was coded at a lower resolution."),
    ] = None,
) -> None:
    """Decode one payload: what the receiver sees."""
    from precomp_sdk.deploy import Compressor, write_image

    sides = (size or "").split("x")
    if size is not None and not (len(sides) == 2 and all(side.isdecimal() and int(side) for side in sides)):
        raise typer.BadParameter(f"expected HEIGHTxWIDTH, such as 240x320; got {size!r}", param_hint="--size")
    target = None if size is None else (int(sides[0]), int(sides[1]))
    write_image(Compressor.load(file, _registry(ctx)).decompress(payload.read_bytes(), target), output)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Of the plugin and its component, in kebab-case.")],
    kind: Annotated[str, typer.Option(help="codec, proxy, preprocessor, task or dataset.")],
    parent: Annotated[Path, typer.Option(help="Folder to make it in.")] = Path(),
) -> None:
    """Write a plugin of your own that works as written, with its tests."""
    from precomp_sdk.scaffold import new_plugin as write_plugin

    folder = write_plugin(name, kind, parent)
    typer.echo(f"{folder}\nnext: pip install -e '{folder}[test]' && pytest {folder}")


@app.command()
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a codec, proxy, preprocessor, task or data set.")],
    kind: Annotated[str | None, typer.Option(help="Its kind, where the name is of several: codec, proxy ...")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Of the component; codec.OPTION=VALUE of a proxy's codec."),
    ] = None,
    codec: Annotated[str | None, typer.Option(help="The codec of a proxy, instead of its own.")] = None,
    load: Annotated[Path | None, typer.Option(help="Weights of a proxy, a preprocessor or a task.")] = None,
    excuses: Annotated[
        list[str] | None,
        typer.Option("--excuse", metavar="NUMBER=REASON", help="Why a promise is not kept. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a component keeps every promise of its contract; fails where it breaks one."""
    import faulthandler

    from precomp_sdk.run import run_check

    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # a library that crashes takes this process along: say in which check
    known = dict(excuse.partition("=")[::2] for excuse in excuses or ())
    report = run_check(
        name, _registry(ctx), kind=kind, codec=codec, options=options or (), load=load, expected_failures=known
    )
    typer.echo(json.dumps(report.as_dict(), indent=1) if as_json else report.summary())
    if report.failures:
        raise typer.Exit(1)


@app.command()
def transfer(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A TOML file with tables codecs, tasks and preprocessors.")],
    settings: _Settings = None,
    output: _Output = None,
) -> None:
    """Score trained preprocessors on backbones and codecs they were trained with, and on others."""
    from precomp_sdk.config import load_transfer
    from precomp_sdk.observers import ProgressObserver, fan_out
    from precomp_sdk.run import leave_a_core, run_transfer

    leave_a_core()
    registry = _registry(ctx)
    description = load_transfer(file, _overrides(settings, output))
    with ProgressObserver() as progress:
        matrix = run_transfer(description, registry, observer=fan_out(progress, registry.notify))
    typer.echo(f"\n{matrix.summary()}\n\nresults and figure: {description.output.folder}")


def main() -> None:
    """Run the command line."""
    app()


def _train(registry: "Registry", experiment: "Experiment", resume: bool, overwrite: bool) -> None:
    from precomp_sdk.run import run_training

    with _observing(registry, experiment, experiment.output.folder, append=resume) as observer:
        outcome = run_training(
            experiment, registry, resume=resume, overwrite=overwrite, observer=observer, command=_command()
        )
    if os.environ.get("RANK", "0") != "0":  # of torchrun: one process speaks for all
        return
    if outcome.result is None:
        typer.echo(f"preprocessor {outcome.parts.preprocessor.name!r} has nothing to train; record: {outcome.folder}")
        typer.echo(f"next: precomp evaluate {shlex.quote(str(outcome.folder))}")
        return
    scale = outcome.parts.codec.quality_scale.name
    typer.echo(f"objective relative to the plain codec's (below 1 is a gain), by {scale}:")
    typer.echo("  " + ", ".join(f"{quality:g}: {value:.3f}" for quality, value in outcome.result.relative.items()))
    typer.echo(f"weights and record: {outcome.folder}\nnext: precomp evaluate {shlex.quote(str(outcome.folder))}")


def _evaluate(
    registry: "Registry", experiment: "Experiment", weights: Path | None, output: Path | None, unfinished: bool = False
) -> None:
    from precomp_sdk.run import run_evaluation

    folder = experiment.output.folder if output is None else output
    with _observing(registry, experiment, folder, append=True) as observer:
        evaluation = run_evaluation(
            experiment,
            registry,
            weights=weights,
            output=output,
            unfinished=unfinished,
            observer=observer,
            command=_command(),
        )
    main_result = evaluation.comparison(evaluation.curves[1].label)
    typer.echo(f"\n{evaluation.summary()}\n\n{main_result.statement}\nresults and plots: {folder}")


@contextmanager
def _observing(
    registry: "Registry", experiment: "Experiment", folder: Path, *, append: bool
) -> "Iterator[Callable[[Event], None]]":
    """Offer an observer that shows progress, writes the logs and tells the plugins."""
    from precomp_sdk.observers import JSONLObserver, ProgressObserver, TensorBoardObserver, fan_out
    from precomp_sdk.run import EVENTS_FILE, leave_a_core

    leave_a_core()
    wanted: Literal["auto"] | bool = experiment.output.tensorboard
    with ExitStack() as stack:
        observers: list[Callable[[Event], None]] = [
            stack.enter_context(ProgressObserver()),
            stack.enter_context(JSONLObserver(folder / EVENTS_FILE, append=append)),
        ]
        if wanted is True or (wanted == "auto" and TensorBoardObserver.available()):
            observers.append(stack.enter_context(TensorBoardObserver(folder / "tensorboard")))
        yield fan_out(*observers, registry.notify)


def _registry(ctx: typer.Context) -> "Registry":
    """Return the registry that an embedder passed as the context's object, or one of the installed plugins."""
    from precomp_sdk.registry import Registry

    return ctx.obj if isinstance(ctx.obj, Registry) else Registry()


def _overrides(settings: list[str] | None, folder: Path | None) -> list[str]:
    return [*(settings or ()), *([] if folder is None else [f"output.folder={json.dumps(str(folder))}"])]


def _tell_notice(event: "Event") -> None:
    _complain(str(getattr(event, "message", event)))


def _command() -> str:
    return shlex.join(["precomp", *sys.argv[1:]])


def _complain(message: str) -> None:
    Console(stderr=True).print(f"precomp: {message}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
