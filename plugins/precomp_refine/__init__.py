"""Refinement of single images at the sender: gradient steps on the image itself, checked with the real codec."""

from precomp_refine.amortize import AmortizationResult, amortize
from precomp_refine.records import Refined, Refinement, RefinementCost, Terms
from precomp_refine.refiner import Refiner
from precomp_sdk import Preprocessor, hookimpl

__all__ = [
    "AmortizationResult",
    "Refined",
    "Refinement",
    "RefinementCost",
    "Refiner",
    "Terms",
    "amortize",
    "precomp_register_preprocessors",
]


@hookimpl
def precomp_register_preprocessors() -> list[type[Preprocessor]]:
    """Offer the refiner."""
    return [Refiner]
