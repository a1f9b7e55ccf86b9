"""An experiment's resolutions: measured on its training images, before it is trained."""

from collections.abc import Callable, Sequence

from precomp_sdk.config import Experiment
from precomp_sdk.data import Subset
from precomp_sdk.events import Event
from precomp_sdk.registry import Registry
from precomp_sdk.run.build import build, located
from precomp_sdk.run.training import check_task, prepare_task
from precomp_sdk.training import FACTORS, ResolutionChoice, choose_resolutions, held_back, shuffled
from precomp_sdk.training.fabric import make_fabric
from precomp_sdk.transcode import Transcoder

__all__ = ["run_choice"]


def run_choice(
    experiment: Experiment,
    registry: Registry,
    *,
    factors: Sequence[float] = FACTORS,
    observer: Callable[[Event], None] | None = None,
) -> tuple[ResolutionChoice, ...]:
    """Choose the resolution at every quality of ``train.ladder`` on the images that training calibrates lambda on.

    A task that is to be fitted is fitted first and left in the output folder, where `precomp train --resume` takes it
    from; one that lies there already is used.

    Args:
        experiment: what to do it for.
        registry: of the names in it.
        factors: of height and width to try.
        observer: called with every event of the task's fitting.

    Raises:
        PrecompError: as `build`, `fit_task` and `choose_resolutions` raise it.
    """
    settings = experiment.train
    with located(f"{experiment.origin}, train.precision", instead=True):
        fabric = make_fabric(settings.precision)
    fabric.launch()
    check_task(experiment)
    parts = build(experiment, registry)
    prepare_task(experiment, parts, fabric, observer, resume=True)
    order = shuffled(parts.train, settings.seed)
    first = 0 if parts.held_out is not None else held_back(len(order), settings)
    images = Subset(parts.train, order[first : first + settings.calibration_images])
    with Transcoder(parts.codec, workers=settings.codec_workers) as transcoder:
        return choose_resolutions(
            transcoder,
            parts.task.to(fabric.device).eval(),
            images,
            parts.codec.quality_scale.ladder_of(settings.ladder),
            factors=factors,
            targets=settings.targets,
            lambdas=settings.lambdas,
            lambda_scale=settings.lambda_scale,
            batch_size=settings.batch_size,
            skip_unreadable=settings.skip_unreadable,
            device=fabric.device,
            observer=observer,
        )
