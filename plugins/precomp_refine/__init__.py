"""Refinement of single pictures at the sender: gradient steps on the picture itself, checked with the real codec."""

from precomp_refine.records import Refined, Refinement, RefinementCost, Terms
from precomp_refine.refiner import Refiner
from precomp_sdk import Preprocessor, hookimpl

__all__ = ["Refined", "Refinement", "RefinementCost", "Refiner", "Terms", "precomp_register_preprocessors"]


@hookimpl
def precomp_register_preprocessors() -> list[type[Preprocessor]]:
    """Offer the refiner."""
    return [Refiner]
