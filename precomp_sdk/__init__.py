"""Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precomp_sdk.codec import Codec
    from precomp_sdk.data import SkippedSample, Subset, TaskDataset, load_samples
    from precomp_sdk.ensemble import EnsembleTask
    from precomp_sdk.errors import (
        BitstreamError,
        CalibrationError,
        CheckpointError,
        CodecError,
        ConfigError,
        ConformanceError,
        ContractError,
        CurveError,
        DatasetError,
        DuplicateNameError,
        ExportError,
        ImageError,
        MissingDependencyError,
        NonFiniteError,
        NotFittedError,
        OptionError,
        PluginError,
        PrecompError,
        QualityError,
        TargetError,
        UnknownNameError,
        nearest,
    )
    from precomp_sdk.events import (
        CheckpointSaved,
        CurveDone,
        Event,
        Notice,
        PointMeasured,
        RunFinished,
        RunStarted,
        StepDone,
    )
    from precomp_sdk.features import capture_layers, check_layer_names
    from precomp_sdk.hookspecs import hookimpl
    from precomp_sdk.images import (
        check_batch,
        check_image,
        coded_size,
        downscale,
        pad_to_multiple,
        round_to_8_bit,
        stack_images,
        to_float,
        to_uint8,
        upscale,
    )
    from precomp_sdk.module_reference import ModuleReference
    from precomp_sdk.module_task import ModuleTask
    from precomp_sdk.preprocessor import Preprocessor
    from precomp_sdk.proxy import ANY_CODEC, ProxyCodec, quality_tensor
    from precomp_sdk.quality import QualityScale
    from precomp_sdk.registry import Component, PluginStatus, Registry, construct
    from precomp_sdk.resolution import ResolutionCurve
    from precomp_sdk.scoring import BoxScorer, EnsembleScorer, MaskScorer
    from precomp_sdk.task import LabelScorer, Scorer, TaskModel
    from precomp_sdk.transcode import PendingBatch, Transcoder
    from precomp_sdk.types import (
        Boxes,
        Composite,
        Label,
        Mask,
        ProxyOutput,
        RateAccuracyCurve,
        RatePoint,
        Sample,
        Target,
        TargetKind,
        Transcoded,
        kind_of,
    )
else:  # the command line answers before PyTorch is imported, which takes seconds

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name in __all__:
            for room in _ROOMS:
                module = import_module(f"precomp_sdk.{room}")
                if name in module.__all__:
                    globals()[name] = getattr(module, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_ROOMS = (
    "errors",
    "types",
    "images",
    "quality",
    "resolution",
    "features",
    "module_reference",
    "codec",
    "proxy",
    "preprocessor",
    "task",
    "data",
    "scoring",
    "module_task",
    "ensemble",
    "events",
    "transcode",
    "hookspecs",
    "registry",
)  #: where the public names live, each importing only from those before it

__all__ = [
    "ANY_CODEC",
    "BitstreamError",
    "BoxScorer",
    "Boxes",
    "CalibrationError",
    "CheckpointError",
    "CheckpointSaved",
    "Codec",
    "CodecError",
    "Component",
    "Composite",
    "ConfigError",
    "ConformanceError",
    "ContractError",
    "CurveDone",
    "CurveError",
    "DatasetError",
    "DuplicateNameError",
    "EnsembleScorer",
    "EnsembleTask",
    "Event",
    "ExportError",
    "ImageError",
    "Label",
    "LabelScorer",
    "Mask",
    "MaskScorer",
    "MissingDependencyError",
    "ModuleReference",
    "ModuleTask",
    "NonFiniteError",
    "NotFittedError",
    "Notice",
    "OptionError",
    "PendingBatch",
    "PluginError",
    "PluginStatus",
    "PointMeasured",
    "PrecompError",
    "Preprocessor",
    "ProxyCodec",
    "ProxyOutput",
    "QualityError",
    "QualityScale",
    "RateAccuracyCurve",
    "RatePoint",
    "Registry",
    "ResolutionCurve",
    "RunFinished",
    "RunStarted",
    "Sample",
    "Scorer",
    "SkippedSample",
    "StepDone",
    "Subset",
    "Target",
    "TargetError",
    "TargetKind",
    "TaskDataset",
    "TaskModel",
    "Transcoded",
    "Transcoder",
    "UnknownNameError",
    "capture_layers",
    "check_batch",
    "check_image",
    "check_layer_names",
    "coded_size",
    "construct",
    "downscale",
    "hookimpl",
    "kind_of",
    "load_samples",
    "nearest",
    "pad_to_multiple",
    "quality_tensor",
    "round_to_8_bit",
    "stack_images",
    "to_float",
    "to_uint8",
    "upscale",
]
