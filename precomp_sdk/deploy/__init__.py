"""A trained preprocessor on its way to users: one object, one file, ONNX, and what it costs."""

from precomp_sdk.deploy.bulk import (
    RECORD_NAME,
    BulkReport,
    BulkSettings,
    FileRecord,
    Job,
    compress_files,
    find_jobs,
    read_records,
)
from precomp_sdk.deploy.compressed_image import CompressedImage
from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.deploy.cost import Cost, measure_cost
from precomp_sdk.deploy.explain import Explanation, explain
from precomp_sdk.deploy.export import export_onnx
from precomp_sdk.deploy.keep_answer import KeepAnswer
from precomp_sdk.deploy.onnx_pair import RECEIVER_FILE, SENDER_FILE, export_onnx_pair
from precomp_sdk.deploy.resources import bytes_per_pixel, check_memory, memory_needed
from precomp_sdk.deploy.shipped import (
    ChooserUse,
    find_model,
    load_shipped_task,
    shipped_models,
    shipped_network_file,
    shipped_networks,
)
from precomp_sdk.deploy.targets import QualityTarget, compress_to_target

__all__ = [
    "RECEIVER_FILE",
    "RECORD_NAME",
    "SENDER_FILE",
    "BulkReport",
    "BulkSettings",
    "ChooserUse",
    "CompressedImage",
    "Compressor",
    "Cost",
    "Explanation",
    "FileRecord",
    "Job",
    "KeepAnswer",
    "QualityTarget",
    "bytes_per_pixel",
    "check_memory",
    "compress_files",
    "compress_to_target",
    "explain",
    "export_onnx",
    "export_onnx_pair",
    "find_jobs",
    "find_model",
    "load_shipped_task",
    "measure_cost",
    "memory_needed",
    "read_records",
    "shipped_models",
    "shipped_network_file",
    "shipped_networks",
]
