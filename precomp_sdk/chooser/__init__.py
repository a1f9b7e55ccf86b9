"""Quality, and resolution, chosen for each image by what a panel of networks loses."""

from precomp_sdk.chooser.answers import answers_apart, answers_differ
from precomp_sdk.chooser.channel import ChoosingChannel
from precomp_sdk.chooser.chosen import ChosenQuality
from precomp_sdk.chooser.curve import PriceCurve, PricePoint
from precomp_sdk.chooser.quality import QualityChooser

__all__ = [
    "ChoosingChannel",
    "ChosenQuality",
    "PriceCurve",
    "PricePoint",
    "QualityChooser",
    "answers_apart",
    "answers_differ",
]
