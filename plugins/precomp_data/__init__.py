"""Data sets: images with classes, boxes or masks, tar shards, torchvision's downloads, and scenes that are drawn."""

from precomp_data.coco import CocoDetection
from precomp_data.folders import ImageFolder, UnlabelledFolder
from precomp_data.geometry import Geometry, ImageDataset
from precomp_data.masks import MaskFolder, read_mask
from precomp_data.scenes import SCENE_CLASSES, Scene, Scenes, draw_scene
from precomp_data.shards import WebDatasetShards
from precomp_data.torchvision_sets import TORCHVISION_SETS, TorchvisionSet
from precomp_data.voc import VOC_CLASSES, VocDetection, VocFolder, VocSegmentation
from precomp_sdk import TaskDataset, hookimpl

__all__ = [
    "SCENE_CLASSES",
    "TORCHVISION_SETS",
    "VOC_CLASSES",
    "CocoDetection",
    "Geometry",
    "ImageDataset",
    "ImageFolder",
    "MaskFolder",
    "Scene",
    "Scenes",
    "TorchvisionSet",
    "UnlabelledFolder",
    "VocDetection",
    "VocFolder",
    "VocSegmentation",
    "WebDatasetShards",
    "draw_scene",
    "precomp_register_datasets",
    "read_mask",
]


@hookimpl
def precomp_register_datasets() -> list[type[TaskDataset]]:
    """Offer the data sets of this plugin."""
    others: list[type[TaskDataset]] = [ImageFolder, UnlabelledFolder, Scenes, *TORCHVISION_SETS]
    return [*others, CocoDetection, MaskFolder, VocDetection, VocSegmentation, WebDatasetShards]
