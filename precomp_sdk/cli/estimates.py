"""The command that says what a run will take."""

from pathlib import Path
from typing import Annotated

import typer

from precomp_sdk.cli._shared import AsJSON, Output, Settings, app, overrides_of, progress, registry_of, say, tell_json

__all__: list[str] = []


@app.command()
def estimate(
    ctx: typer.Context,
    experiment: Annotated[Path, typer.Argument(help="A TOML file that `precomp train` takes.")],
    settings: Settings = None,
    output: Output = None,
    steps: Annotated[int, typer.Option(help="How many steps of each kind are measured.")] = 8,
    images: Annotated[int, typer.Option(help="On how many images calibration and evaluation are measured.")] = 8,
    as_json: AsJSON = False,
) -> None:
    """Say what an experiment will take, time, memory and disk, from a few of its own steps."""
    from precomp_sdk.config import load_experiment
    from precomp_sdk.run import EstimateSettings, estimate_run, leave_a_core

    leave_a_core()
    loaded = load_experiment(experiment, overrides_of(settings, output))
    with progress(ctx) as shown:
        found = estimate_run(
            loaded, registry_of(ctx), settings=EstimateSettings(steps=steps, images=images), observer=shown
        )
    if as_json:
        tell_json(found.to_dict())
        return
    say(found.summary())
