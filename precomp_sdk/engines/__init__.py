"""Who runs a piece of work over many items: this process, several, or a Ray cluster."""

from precomp_sdk.engines.base import Engine, Outcome, Work
from precomp_sdk.engines.choice import ENGINES, make_engine
from precomp_sdk.engines.local import ProcessEngine, SerialEngine
from precomp_sdk.engines.ray import RayEngine

__all__ = ["ENGINES", "Engine", "Outcome", "ProcessEngine", "RayEngine", "SerialEngine", "Work", "make_engine"]
