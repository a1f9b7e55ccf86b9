"""A network of your own as a task, in one line: what it takes and what it returns is read off the network.

`ClassifierTask`, `SegmenterTask` and `DetectorTask` wrap any ``nn.Module`` that answers as torchvision's networks do;
those of timm, transformers and segmentation_models_pytorch are among them. They are made of `LabelTask` and `MaskTask`,
as networks with another calling convention may be. Anything else: `ModuleTask`, or a subclass of `TaskModel`.
"""

from precomp_sdk.network_tasks._input import NetworkInput
from precomp_sdk.network_tasks.classifier import ClassifierTask, LabelTask
from precomp_sdk.network_tasks.detector import DetectorTask
from precomp_sdk.network_tasks.segmenter import MaskTask, SegmenterTask

__all__ = ["ClassifierTask", "DetectorTask", "LabelTask", "MaskTask", "NetworkInput", "SegmenterTask"]
