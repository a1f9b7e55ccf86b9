"""Commands for trained preprocessors: export, compress, decompress."""

from pathlib import Path
from typing import Annotated

import typer

from precomp_sdk.cli._shared import app, registry_of, tell_notice

__all__: list[str] = []


@app.command()
def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="The output folder of `precomp train`, or a weights file of it.")],
    output: Annotated[Path, typer.Option(help="A .safetensors file for `precomp compress`, or an .onnx file.")],
) -> None:
    """Write a trained preprocessor with its codec as one file, or as ONNX, and say what it costs."""
    from precomp_sdk.deploy import measure_cost
    from precomp_sdk.run import load_compressor

    sender = load_compressor(run, registry_of(ctx), observer=tell_notice)
    if sender.preprocessor.requires and output.suffix != ".onnx":
        told = f"{sender.preprocessor.name!r} works with its {' and '.join(sender.preprocessor.requires)}"
        raise typer.BadParameter(
            f"{told}, which no weights file holds: expected an .onnx file; `precomp compress` takes the run's folder",
            param_hint="--output",
        )
    sender.export_onnx(output) if output.suffix == ".onnx" else sender.save(output)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB\n{measure_cost(sender.preprocessor)}")


@app.command()
def compress(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `precomp export` wrote, or the folder of `precomp train`.")],
    image: Annotated[Path, typer.Argument(help="An image file; what becomes of it: docs/guides/images.md.")],
    quality: Annotated[float, typer.Option(help="On the codec's own scale.")],
    output: Annotated[Path, typer.Option(help="File for the payload.")],
    max_pixels: Annotated[
        int | None, typer.Option(help="Larger images are refused before they are decoded; by default 178956970.")
    ] = None,
    white_level: Annotated[
        float | None, typer.Option(help="The sample that is white, in images of more than 8 bits; 4095 for 12 bits.")
    ] = None,
) -> None:
    """Preprocess and encode one image, upright and in sRGB; its metadata is left behind."""
    from precomp_sdk.atomic_io import write_whole
    from precomp_sdk.image_io import MAX_PIXELS, ReadSettings, read_image
    from precomp_sdk.run import load_compressor

    settings = ReadSettings(max_pixels=MAX_PIXELS if max_pixels is None else max_pixels, white_level=white_level)
    source = read_image(image, settings=settings)
    payload = load_compressor(file, registry_of(ctx), observer=tell_notice).compress(source, quality)
    write_whole(output, payload)
    pixels = source.shape[-2] * source.shape[-1]
    typer.echo(f"{output}: {len(payload)} bytes, {8 * len(payload) / pixels:.3f} bits per pixel")


@app.command()
def decompress(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `precomp export` wrote, or the folder of `precomp train`.")],
    payload: Annotated[Path, typer.Argument(help="What `precomp compress` wrote.")],
    output: Annotated[Path, typer.Option(help="PNG file for the image.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of the source, where it was coded at a lower resolution."),
    ] = None,
) -> None:
    """Decode one payload: what the receiver sees."""
    from precomp_sdk.image_io import write_image
    from precomp_sdk.run import load_compressor

    sides = (size or "").split("x")
    if size is not None and not (len(sides) == 2 and all(side.isdecimal() and int(side) for side in sides)):
        raise typer.BadParameter(f"expected HEIGHTxWIDTH, such as 240x320; got {size!r}", param_hint="--size")
    target = None if size is None else (int(sides[0]), int(sides[1]))
    write_image(load_compressor(file, registry_of(ctx)).decompress(payload.read_bytes(), target), output)
