"""A trained preprocessor on its way to users: one object, one file, ONNX, and what it costs."""

from precomp_sdk.deploy.compressor import Compressor
from precomp_sdk.deploy.cost import Cost, measure_cost
from precomp_sdk.deploy.export import export_onnx

__all__ = ["Compressor", "Cost", "export_onnx", "measure_cost"]
