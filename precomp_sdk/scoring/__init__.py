"""Scores of detection, segmentation and of several tasks at once; that of classification is `LabelScorer`."""

from precomp_sdk.scoring.boxes import BoxScorer
from precomp_sdk.scoring.ensembles import EnsembleScorer
from precomp_sdk.scoring.masks import MaskScorer

__all__ = ["BoxScorer", "EnsembleScorer", "MaskScorer"]
