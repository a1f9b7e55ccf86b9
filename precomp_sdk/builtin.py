"""What the package itself registers, through the door of every plugin."""

from precomp_sdk.ensemble import EnsembleTask
from precomp_sdk.hookspecs import hookimpl
from precomp_sdk.preprocessor import Identity, Preprocessor
from precomp_sdk.task import TaskModel

__all__ = ["precomp_register_preprocessors", "precomp_register_tasks"]


@hookimpl
def precomp_register_preprocessors() -> list[type[Preprocessor]]:
    """Offer what changes nothing."""
    return [Identity]


@hookimpl
def precomp_register_tasks() -> list[type[TaskModel]]:
    """Offer the ensemble."""
    return [EnsembleTask]
