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
from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.deploy.cost import Cost, measure_cost
from precomp_sdk.deploy.export import export_onnx
from precomp_sdk.deploy.resources import bytes_per_pixel, check_memory, memory_needed
from precomp_sdk.deploy.targets import CompressedImage, QualityTarget, compress_to_target

__all__ = [
    "RECORD_NAME",
    "BulkReport",
    "BulkSettings",
    "CompressedImage",
    "Compressor",
    "Cost",
    "FileRecord",
    "Job",
    "QualityTarget",
    "bytes_per_pixel",
    "check_memory",
    "compress_files",
    "compress_to_target",
    "export_onnx",
    "find_jobs",
    "measure_cost",
    "memory_needed",
    "read_records",
]
