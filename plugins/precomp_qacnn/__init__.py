"""Quantization-adaptive CNNs: the paper's, a light one, one guided by the task, two with guides of their own."""

from precomp_qacnn.free import FreeQACNN
from precomp_qacnn.guided import GuidedQACNN
from precomp_qacnn.light import LightQACNN
from precomp_qacnn.paper import PaperQACNN
from precomp_qacnn.smooth import SmoothQACNN
from precomp_sdk import Preprocessor, hookimpl

__all__ = ["FreeQACNN", "GuidedQACNN", "LightQACNN", "PaperQACNN", "SmoothQACNN", "precomp_register_preprocessors"]


@hookimpl
def precomp_register_preprocessors() -> list[type[Preprocessor]]:
    """Offer the five networks."""
    return [FreeQACNN, GuidedQACNN, LightQACNN, PaperQACNN, SmoothQACNN]
