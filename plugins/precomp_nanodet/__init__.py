"""NanoDet-m, a small detector of COCO's 80 classes, as a task: a member of panels, and a judge."""

from precomp_nanodet.network import NanoDetM
from precomp_nanodet.task import NanoDet
from precomp_sdk import TaskModel, hookimpl

__all__ = ["NanoDet", "NanoDetM", "precomp_register_tasks"]


@hookimpl
def precomp_register_tasks() -> list[type[TaskModel]]:
    """Offer the detector."""
    return [NanoDet]
