"""Skeletons that work as written, to be changed step by step: plugins, and experiment files."""

from precomp_sdk.scaffold.experiments import LABELS, SMALL, Layout, detect_layout, draft_experiment
from precomp_sdk.scaffold.writing import KINDS, new_plugin

__all__ = ["KINDS", "LABELS", "SMALL", "Layout", "detect_layout", "draft_experiment", "new_plugin"]
