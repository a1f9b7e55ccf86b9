"""An engine by its name."""

from precomp_sdk.engines.base import Engine
from precomp_sdk.engines.local import ProcessEngine, SerialEngine
from precomp_sdk.engines.ray import RayEngine
from precomp_sdk.errors import OptionError

__all__ = ["ENGINES", "make_engine"]

ENGINES = ("local", "ray")  #: names of engines


def make_engine(name: str = "local", workers: int | None = None, *, address: str | None = None) -> Engine:
    """Return an engine by its name.

    Args:
        name: ``"local"`` or ``"ray"``.
        workers: how many items at a time; 0: one per core. None: one, which is this process; with Ray, one per core of
            the cluster.
        address: of a running Ray cluster; None: one on this machine.

    Raises:
        OptionError: there is no such engine, or an address without Ray.
        MissingDependencyError: Ray is not installed.
    """
    if name not in ENGINES:
        raise OptionError.choice("engine", "name", ENGINES, name)
    if name == "ray":
        return RayEngine(address, workers or None)
    if address is not None:
        raise OptionError(
            where="engine, option 'address'", expected="none, with engine local", got=address, remedy="Take engine ray."
        )
    return SerialEngine() if workers in (None, 1) else ProcessEngine(workers or None)
