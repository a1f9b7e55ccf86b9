"""What a plugin's own tests need: the conformance kit, and small doubles of the five contracts."""

from precomp_sdk.errors import ConformanceError
from precomp_sdk.testing.codecs import CodecSettings
from precomp_sdk.testing.datasets import DatasetSettings
from precomp_sdk.testing.doubles import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.testing.images import ODD_SIZES, extreme_images, natural_image
from precomp_sdk.testing.kit import (
    PROMISES,
    check_codec,
    check_dataset,
    check_preprocessor,
    check_proxy,
    check_task,
    codec_cases,
    dataset_cases,
    examine,
    preprocessor_cases,
    proxy_cases,
    task_cases,
)
from precomp_sdk.testing.preprocessors import PreprocessorSettings
from precomp_sdk.testing.promises import (
    BrokenPromiseError,
    Finding,
    NotApplicableError,
    Outcome,
    Promise,
    Report,
    require,
)
from precomp_sdk.testing.proxies import ProxySettings
from precomp_sdk.testing.tasks import TaskSettings

__all__ = [
    "ODD_SIZES",
    "PROMISES",
    "BrokenPromiseError",
    "CodecSettings",
    "ConformanceError",
    "DatasetSettings",
    "FakeCodec",
    "FakeDataset",
    "FakePreprocessor",
    "FakeProxy",
    "FakeTask",
    "Finding",
    "NotApplicableError",
    "Outcome",
    "PreprocessorSettings",
    "Promise",
    "ProxySettings",
    "Report",
    "TaskSettings",
    "check_codec",
    "check_dataset",
    "check_preprocessor",
    "check_proxy",
    "check_task",
    "codec_cases",
    "dataset_cases",
    "examine",
    "extreme_images",
    "natural_image",
    "preprocessor_cases",
    "proxy_cases",
    "require",
    "task_cases",
]
