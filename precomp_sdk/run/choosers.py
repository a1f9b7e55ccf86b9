"""The chooser that a training run asks for the quality of each image."""

from precomp_sdk.chooser import QualityChooser
from precomp_sdk.config import Experiment
from precomp_sdk.data import load_samples, spread_places
from precomp_sdk.run.build import located
from precomp_sdk.run.components import TrainingComponents

__all__ = ["training_chooser"]


def training_chooser(experiment: Experiment, components: TrainingComponents) -> QualityChooser | None:
    """Return what the table ``[chooser]`` describes, fitted on training images; None where there is none.

    Raises:
        OptionError: an option is out of range, or there are too few images.
        CalibrationError: no member's answers move where images are compressed.
        DatasetError: an image cannot be read.
    """
    table, codec = experiment.chooser, components.codec
    if table is None:
        return None
    for task in components.training_panel.values():
        task.eval()
    with located(f"{experiment.origin}, chooser"):
        chooser = QualityChooser(
            codec,
            components.training_panel,
            ladder=codec.quality_scale.ladder_of(experiment.train.ladder),
            trust=table.trust,
            level=table.level,
            monotone=table.monotone,
            panel_px=table.panel_px,
        )
        places = spread_places(len(components.train), table.fit_images)
        samples, _ = load_samples(components.train, places, skip_unreadable=experiment.train.skip_unreadable)
        chooser.fit([sample.image for sample in samples])
    return chooser
