"""Commands for trained preprocessors: export, compress, decompress."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precomp_sdk.cli._shared import (
    STREAM,
    Address,
    AsJSON,
    EngineName,
    Trust,
    Workers,
    app,
    progress,
    read_input,
    registry_of,
    say,
    tell_json,
    tell_notice,
    write_output,
)

if TYPE_CHECKING:
    from torch import Tensor

    from precomp_sdk.deploy import Compressor, KeepAnswer, QualityTarget
    from precomp_sdk.image_io import ReadSettings
    from precomp_sdk.registry import Registry

__all__: list[str] = []

_CALIBRATION = 16  # images for int8

Model = Annotated[
    Path,
    typer.Argument(help="What `precomp export` wrote, the folder of `precomp train`, or a shipped sender: general."),
]
CodecName = Annotated[str | None, typer.Option("--codec", help="Of a shipped sender: jpeg (the default), bpg ...")]


@app.command()
def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="The output folder of `precomp train`, or a weights file of it.")],
    output: Annotated[
        Path,
        typer.Option(help="A .safetensors file for `precomp compress`; an .onnx file of the network; or a folder."),
    ],
    int8: Annotated[
        Path | None,
        typer.Option(help="With a folder as output: images to calibrate on, for convolutions in 8 bits at the sender."),
    ] = None,
    trust: Trust = False,
    as_json: AsJSON = False,
) -> None:
    """Write a trained preprocessor with its codec as one file, or as ONNX, and say what it costs.

    A folder gets sender.onnx and receiver.onnx: 8 bits in and out, so that neither side needs Python.
    """
    from precomp_sdk.deploy import export_onnx_pair, measure_cost
    from precomp_sdk.run import load_compressor

    sender = load_compressor(run, registry_of(ctx), trust=trust, observer=tell_notice)
    if int8 is not None and output.suffix:
        raise typer.BadParameter("expected a folder as output: int8 is for sender.onnx", param_hint="--int8")
    paths: Sequence[Path] = (output,)
    if not output.suffix:
        paths = export_onnx_pair(sender, output, int8=None if int8 is None else _calibration(int8, output))
    elif output.suffix == ".onnx":
        sender.export_onnx(output)
    elif not sender.preprocessor.requires:
        sender.save(output)
    else:
        told = f"{sender.preprocessor.name!r} works with its {' and '.join(sender.preprocessor.requires)}"
        raise typer.BadParameter(
            f"{told}, which no weights file holds: expected an .onnx file; `precomp compress` takes the run's folder",
            param_hint="--output",
        )
    cost, sizes = measure_cost(sender.preprocessor), {path: path.stat().st_size for path in paths}
    if as_json:
        tell_json({"files": [{"path": path, "bytes": size} for path, size in sizes.items()], "cost": cost})
        return
    for path, size in sizes.items():
        say(f"{path}: {size / 1e6:.2f} MB")
    say(str(cost))


def _calibration(folder: Path, output: Path) -> list["Tensor"]:
    """Return some images of a folder, evenly spread over its files."""
    from precomp_sdk.deploy import find_jobs
    from precomp_sdk.image_io import read_image

    sources = [job.source for job in find_jobs([folder], output, ".onnx")]
    return [read_image(source) for source in sources[:: max(1, len(sources) // _CALIBRATION)][:_CALIBRATION]]


@app.command()
def compress(
    ctx: typer.Context,
    model: Model,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Image files and folders of images; - is standard input.")
    ],
    output: Annotated[
        Path,
        typer.Option(help="A folder, whose tree mirrors the inputs'; for one image a file, or - for standard output."),
    ],
    quality: Annotated[float | None, typer.Option(help="On the codec's own scale.")] = None,
    bpp: Annotated[float | None, typer.Option(help="Instead: at most so many bits per pixel, image by image.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Instead: at most so many bytes, image by image.")] = None,
    keep_answer: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Instead: as strongly as this network still answers the same: a weights file, the folder of a run, "
            "squeezenet or nanodet.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="With --keep-answer: the share of an answer that may differ.")
    ] = None,
    max_encodes: Annotated[int, typer.Option(help="How often an image may be encoded to find its quality.", min=2)] = 8,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Code every pixel, where a sender would choose a resolution, too.")
    ] = False,
    codec: CodecName = None,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = None,
    newer: Annotated[bool, typer.Option("--newer", help="Skip images whose payload is younger than they are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 where an image failed.")] = False,
    as_json: AsJSON = False,
    max_pixels: Annotated[
        int | None, typer.Option(help="Larger images are refused before they are decoded; by default 178956970.")
    ] = None,
    white_level: Annotated[
        float | None, typer.Option(help="The sample that is white, in images of more than 8 bits; 4095 for 12 bits.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Preprocess and encode images, upright and in sRGB; their metadata is left behind.

    A shipped sender chooses for each image the quality and the resolution that small networks of its own need;
    --quality then names the operating point, and --full-size keeps it from taking pixels away.

    A folder as output makes it a job: files are written atomically, a record of each goes to compressed.jsonl, and the
    same command goes on where one was interrupted.
    """
    from precomp_sdk.deploy import RECORD_NAME, BulkSettings, QualityTarget, compress_files, find_jobs, find_model
    from precomp_sdk.engines import make_engine
    from precomp_sdk.image_io import MAX_PIXELS, ReadSettings
    from precomp_sdk.run import Source, load_compressor

    registry = registry_of(ctx)
    target: QualityTarget | KeepAnswer
    if keep_answer is None:
        target = QualityTarget(quality=quality, bits_per_pixel=bpp, max_bytes=max_bytes, max_encodes=max_encodes)
    elif (quality, bpp, max_bytes) != (None, None, None):
        raise typer.BadParameter("expected it, or a quality, bits per pixel or bytes", param_hint="--keep-answer")
    else:
        target = _kept(keep_answer, registry, trust=trust, tolerance=tolerance, max_encodes=max_encodes)
    read = ReadSettings(max_pixels=MAX_PIXELS if max_pixels is None else max_pixels, white_level=white_level)
    model = find_model(model, codec)
    load = partial(load_compressor, model, registry, max_pixels=max_pixels, trust=trust)
    if full_size:
        load = partial(_load_at_full_size, load)
    sender = load(observer=tell_notice)
    if full_size and sender.chooser is None:
        raise typer.BadParameter("expected a sender that chooses a resolution", param_hint="--full-size")
    if quality is not None:
        sender.check_quality(quality)
    single = len(inputs) == 1 and (inputs[0] == STREAM or inputs[0].is_file())
    if single and (output == STREAM or (not output.is_dir() and output.suffix)):
        _compress_one(sender, inputs[0], output, target, read, as_json=as_json)
        return
    if STREAM in (*inputs, output):
        raise typer.BadParameter("expected files and folders; - is for one image alone", param_hint="INPUT")
    with progress(ctx) as shown, make_engine(engine, workers, address=address) as who:
        report = compress_files(
            Source(load, sender),
            find_jobs(inputs, output, sender.codec.suffix()),
            BulkSettings(target, newer=newer, dry_run=dry_run, read=read),
            sender=sender.digest,
            record=output / RECORD_NAME,
            engine=who,
            observer=shown,
        )
    if as_json:
        tell_json(report)
    else:
        say(report.summary())
    if report.failures and fail:
        raise typer.Exit(1)


def _load_at_full_size(load: Callable[..., "Compressor"], **options: Any) -> "Compressor":
    """Return what is loaded, at full size; a worker does it anew."""
    return load(**options).at_full_size()


def _kept(name: str, registry: "Registry", *, trust: bool, tolerance: float | None, max_encodes: int) -> "KeepAnswer":
    """Return the target that keeps a network's answer; each worker loads the network anew."""
    from precomp_sdk.deploy import KeepAnswer
    from precomp_sdk.deploy.loading import digest_of
    from precomp_sdk.run import Source, load_task

    load = partial(load_task, name, registry, trust=trust)
    task = load()
    return KeepAnswer(
        Source(load, task),
        name=f"{name} ({digest_of(task)[:8]})",  # other weights under this name do a bulk job's files again
        tolerance=tolerance,
        max_encodes=max_encodes,
    )


def _compress_one(
    sender: "Compressor",
    source: Path,
    output: Path,
    target: "QualityTarget | KeepAnswer",
    read: "ReadSettings",
    *,
    as_json: bool,
) -> None:
    """Compress one image to a file or to standard output."""
    from precomp_sdk.deploy import compress_to_target
    from precomp_sdk.image_io import read_image

    image = read_image(read_input(source) if source == STREAM else source, settings=read)
    found = compress_to_target(sender, image, target)
    write_output(output, found.payload)
    bpp = 8 * len(found.payload) / (image.shape[1] * image.shape[2])
    facts = {
        "output": output,
        "bytes": len(found.payload),
        "bpp": bpp,
        "quality": found.quality,
        "resolution": found.resolution,
        "encodes": found.encodes,
        "reason": found.reason,
    }
    if as_json and output != STREAM:
        tell_json(facts)
    elif output != STREAM:
        smaller = f" at {found.resolution:g} of height and width" if found.resolution != 1.0 else ""
        chosen = (
            f", {sender.codec.quality_scale.name} {found.quality:g}{smaller}, {found.encodes} encodes: {found.reason}"
            if found.reason
            else ""
        )
        say(f"{output}: {len(found.payload)} bytes, {bpp:.3f} bits per pixel{chosen}")


@app.command()
def decompress(
    ctx: typer.Context,
    model: Model,
    payload: Annotated[Path, typer.Argument(help="What `precomp compress` wrote; - is standard input.")],
    output: Annotated[Path, typer.Option(help="PNG file for the image; - is standard output.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of the source, where it was coded at a lower resolution."),
    ] = None,
    codec: CodecName = None,
    trust: Trust = False,
) -> None:
    """Decode one payload: what the receiver sees."""
    from precomp_sdk.image_io import encode_png, write_image
    from precomp_sdk.run import load_compressor

    sides = (size or "").split("x")
    if size is not None and not (len(sides) == 2 and all(side.isdecimal() and int(side) for side in sides)):
        raise typer.BadParameter(f"expected HEIGHTxWIDTH, such as 240x320; got {size!r}", param_hint="--size")
    target = None if size is None else (int(sides[0]), int(sides[1]))
    sender = load_compressor(model, registry_of(ctx), codec=codec, trust=trust)
    image = sender.decompress(read_input(payload), target)
    if output == STREAM:
        write_output(output, encode_png(image))
    else:
        write_image(image, output)


@app.command()
def explain(
    ctx: typer.Context,
    image: Annotated[Path, typer.Argument(help="An image file.")],
    model: Model,
    quality: Annotated[float, typer.Option(help="On the codec's own scale.")],
    output: Annotated[Path, typer.Option(help="PNG file for the figure.")] = Path("explained.png"),
    codec: CodecName = None,
    trust: Trust = False,
    as_json: AsJSON = False,
) -> None:
    """Show what a sender does to an image: where it looks, what it changes, where the bits go."""
    from precomp_sdk.deploy import explain as explained
    from precomp_sdk.run import load_compressor

    found = explained(load_compressor(model, registry_of(ctx), codec=codec, trust=trust), image, quality)
    found.save(output)
    if as_json:
        tell_json({"output": output, **found.facts})
    else:
        typer.echo(f"{output}: {found.summary}")
