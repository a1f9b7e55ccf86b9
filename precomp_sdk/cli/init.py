"""`precomp init`: an experiment file for what the user has."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from precomp_sdk.cli._shared import app, complain, registry_of

__all__: list[str] = []


@app.command()
def init(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The experiment file to write.")] = Path("experiment.toml"),
    data: Annotated[Path | None, typer.Option(help="Folder of images.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="folders, coco, masks, voc or none; default: what the folder looks like.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="torchvision's name of the network at the receiver; small: one that needs no download."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="The network's weights: DEFAULT for torchvision's own, or a file.")
    ] = "DEFAULT",
    codec: Annotated[str | None, typer.Option(help="Name of the codec, such as jpeg, bpg or webp.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older file.")] = False,
) -> None:
    """Write an experiment file for your images; asks for what it is not told."""
    from precomp_sdk.atomic_io import write_whole
    from precomp_sdk.config import load_experiment
    from precomp_sdk.errors import ConfigError
    from precomp_sdk.run import describe
    from precomp_sdk.scaffold import LABELS, detect_layout, draft_experiment

    if file.exists() and not overwrite:
        raise ConfigError(
            where=str(file), expected="no file of that name", got="one", remedy="Name another, or add --overwrite."
        )
    asked = _is_a_terminal()
    if data is None:
        if not asked:
            raise typer.BadParameter("expected a folder of images; got none", param_hint="--data")
        data = Path(typer.prompt("Folder of images"))
    layout = detect_layout(data, labels)
    if asked and labels is None:
        told = "\n".join(f"  {name}: {text}" for name, text in LABELS.items())
        typer.echo(f"Kinds of labels:\n{told}", err=True)
        layout = detect_layout(data, typer.prompt("Labels", default=layout.labels))
    if asked and network is None:
        network = typer.prompt("Network (a name of torchvision's; empty for a usual one)", default="") or None
    if codec is None:
        codec = typer.prompt("Codec", default="jpeg") if asked else "jpeg"
    describe(codec, registry_of(ctx), kind="codec")  # an unknown name is told with the nearest
    write_whole(file, draft_experiment(layout, codec=codec, network=network, weights=weights))
    load_experiment(file)
    if not layout.split:
        complain(f"{data} has no train and val: what is trained on is evaluated, too; keep some images apart")
    classes = f", {len(layout.classes)} classes" if layout.classes else ""
    typer.echo(
        f"{file}: {layout.labels}{classes}, codec {codec}\nnext: precomp train {file} && precomp evaluate {file}"
    )


def _is_a_terminal() -> bool:
    return sys.stdin.isatty()
