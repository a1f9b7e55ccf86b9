"""The command that lays several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from precomp_sdk.cli._shared import app, say

__all__: list[str] = []

_RESULTS = "results.json"


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that `precomp evaluate` wrote to, or files results.json.")
    ],
    output: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> None:
    """Lay evaluated runs side by side on one HTML page that needs no network."""
    from precomp_sdk.atomic_io import check_target
    from precomp_sdk.evaluation import read_results, write_runs

    check_target(output)
    found = {str(path): read_results(path / _RESULTS if path.is_dir() else path) for path in runs}
    write_runs(found, output)
    say(f"page: {output}")
