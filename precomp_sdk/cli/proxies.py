"""Commands for proxies: fit and evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from precomp_sdk.cli._shared import AsJSON, app, progress, registry_of, say, tell_json, tell_result

__all__: list[str] = []


@app.command("fit-proxy")
def fit_proxy(
    ctx: typer.Context,
    codec: Annotated[str, typer.Option(help="Name of the codec.")],
    data: Annotated[Path, typer.Option(help="Folder of images; no labels are needed.")],
    output: Annotated[Path, typer.Option(help="File for the weights, for proxy.load of an experiment.")],
    proxy: Annotated[str | None, typer.Option(help="Name of the proxy; default: the codec's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as codec.subsampling=4:4:4 or fit.steps=100."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Fit a proxy to its codec and write its weights."""
    from precomp_sdk.config import parse_proxy_fitting
    from precomp_sdk.observers import fan_out
    from precomp_sdk.run import run_proxy_fitting

    registry = registry_of(ctx)
    tables = {
        "codec": {"name": codec},
        "proxy": {} if proxy is None else {"name": proxy},
        "data": {"name": "unlabelled-images", "root": str(data), "geometry": {"crop": 128, "augment": True}},
    }
    fitting = parse_proxy_fitting(tables, overrides=settings or ())
    with progress(ctx) as shown:
        result = run_proxy_fitting(fitting, registry, output, observer=fan_out(shown, registry.notify))
    if as_json:
        tell_json(result)
        return
    say(
        f"{result.proxy} for {codec}: {result.fit.psnr_db:.1f} dB from its images, "
        f"{result.fit.bits_error:.1%} from its bits" + (f"; {result.fit.doubt}" if result.fit.doubt else "")
    )
    say(f"weights: {result.path}")


@app.command("evaluate-proxy")
def evaluate_proxy(
    ctx: typer.Context,
    codec: Annotated[str, typer.Option(help="Name of the codec.")],
    data: Annotated[Path, typer.Option(help="Folder of images that the proxy was not fitted to.")],
    proxy: Annotated[str | None, typer.Option(help="Name of the proxy; default: the codec's.")] = None,
    load: Annotated[Path | None, typer.Option(help="Weights that `precomp fit-proxy` wrote.")] = None,
    output: Annotated[Path | None, typer.Option(help="File for the report, as JSON; an HTML page beside it.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as data.geometry.crop=128 or evaluate.images=32."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Measure a proxy against its codec: images, bits, ranking, and where its gradients lead."""
    from precomp_sdk.atomic_io import check_target, write_whole
    from precomp_sdk.config import parse_proxy_evaluation
    from precomp_sdk.evaluation.page import proxy_page
    from precomp_sdk.observers import fan_out
    from precomp_sdk.run import run_proxy_evaluation

    registry = registry_of(ctx)
    chosen = {"name": proxy, "load": load}
    tables = {
        "codec": {"name": codec},
        "proxy": {key: str(value) for key, value in chosen.items() if value is not None},
        "data": {"name": "unlabelled-images", "root": str(data)},
    }
    evaluation = parse_proxy_evaluation(tables, overrides=settings or ())
    page = None
    if output is not None:
        check_target(output)
        beside = output.with_suffix(".html")
        page = beside if beside != output and (output.is_file() or not output.exists()) else None  # a pipe stands alone
    with progress(ctx) as shown:
        report = run_proxy_evaluation(evaluation, registry, observer=fan_out(shown, registry.notify))
    if output is not None:
        write_whole(output, report.json())
        if page is not None:
            write_whole(page, proxy_page(report))
    if as_json:
        tell_result(report.json().rstrip("\n"))
        return
    say(report.summary() + (f"\n\nreport: {output}" if output else ""))
