"""Options as a run records them: all of its codec, none of its start, and those that its weights were trained with."""

from inspect import signature
from pathlib import Path

from precomp_sdk.codec import Codec
from precomp_sdk.config import ComponentTable, Experiment
from precomp_sdk.errors import CheckpointError
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.training import SavedModule, as_recorded

__all__ = ["check_recorded_options", "with_codec_options", "without_start"]


def with_codec_options(experiment: Experiment, codec: Codec) -> Experiment:
    """Return the experiment with every option of its codec, so that its record does not depend on today's defaults."""
    taken = signature(type(codec)).parameters
    told = {
        name: value for name, value in as_recorded(codec.coding_options).items() if value is not None and name in taken
    }
    named = {**told, **experiment.codec.options}
    return experiment.model_copy(update={"codec": ComponentTable(name=experiment.codec.name, **named)})


def without_start(experiment: Experiment) -> Experiment:
    """Return the experiment without the weights its training started from, which trained ones replace."""
    preprocessor = experiment.preprocessor.model_copy(update={"load": None})
    return experiment.model_copy(update={"preprocessor": preprocessor})


def check_recorded_options(saved: SavedModule, preprocessor: Preprocessor, weights: Path, where: str) -> None:
    """Refuse weights that were trained with other options: not every option changes a shape.

    What an older file does not record counts as the option's default.

    Raises:
        CheckpointError: an option differs.
    """
    defaults = {name: item.default for name, item in signature(type(preprocessor)).parameters.items()}
    ours = as_recorded(preprocessor.options)
    theirs = as_recorded({**{name: defaults.get(name) for name in ours}, **saved.options})
    for name, value in ours.items():
        if value != theirs[name]:
            raise CheckpointError(
                where=f"{where}.{name}",
                expected=f"what the weights in {weights} were trained with: {theirs[name]}",
                got=repr(value),
                remedy="Set the option to what they were trained with, or leave it out where the run's folder says it.",
            )
