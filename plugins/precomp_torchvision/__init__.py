"""Tasks with torchvision's networks."""

from precomp_sdk import TaskModel, hookimpl
from precomp_torchvision.classifier import Classifier
from precomp_torchvision.detector import Detector
from precomp_torchvision.segmenter import Segmenter
from precomp_torchvision.small import SmallClassifier

__all__ = ["Classifier", "Detector", "Segmenter", "SmallClassifier", "precomp_register_tasks"]


@hookimpl
def precomp_register_tasks() -> list[type[TaskModel]]:
    """Offer the tasks."""
    return [Classifier, Detector, Segmenter, SmallClassifier]
