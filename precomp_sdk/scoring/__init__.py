"""Scores of classification, detection, segmentation and of several tasks at once."""

from precomp_sdk.scoring.boxes import BoxScorer
from precomp_sdk.scoring.ensembles import EnsembleScorer
from precomp_sdk.scoring.labels import LabelScorer
from precomp_sdk.scoring.masks import MaskScorer

__all__ = ["BoxScorer", "EnsembleScorer", "LabelScorer", "MaskScorer"]
