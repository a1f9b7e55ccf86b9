"""What a plugin's own tests need: the conformance kit, and small doubles of the five contracts."""

from precomp_sdk.errors import ConformanceError
from precomp_sdk.testing.checks import Check, CheckFailedError, NotApplicableError, numbered, require
from precomp_sdk.testing.codecs import CodecSettings
from precomp_sdk.testing.datasets import DatasetSettings
from precomp_sdk.testing.doubles import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.testing.images import ODD_SIZES, extreme_images, natural_image
from precomp_sdk.testing.kit import CHECKS, check, parametrize_with_checks
from precomp_sdk.testing.preprocessors import PreprocessorSettings
from precomp_sdk.testing.proxies import ProxySettings
from precomp_sdk.testing.report import Finding, Outcome, Report
from precomp_sdk.testing.tasks import TaskSettings

__all__ = [
    "CHECKS",
    "ODD_SIZES",
    "Check",
    "CheckFailedError",
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
    "ProxySettings",
    "Report",
    "TaskSettings",
    "check",
    "extreme_images",
    "natural_image",
    "numbered",
    "parametrize_with_checks",
    "require",
]
