"""What the checks of several contracts share."""

import copy
import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from precomp_sdk.images import stack_images
from precomp_sdk.testing.checks import CheckFailedError, NotApplicableError, require
from precomp_sdk.testing.images import natural_image

__all__ = [
    "TookTooLongError",
    "copied",
    "gradients",
    "in_threads",
    "natural_batch",
    "permuted",
    "require_close",
    "require_declared",
    "require_refused",
    "stray_tensors",
    "within",
]

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class TookTooLongError(CheckFailedError):
    """A call did not return in time."""


def require_declared(component: object, *attributes: tuple[str, type]) -> None:
    """Require name, source and further attributes of a component's class."""
    cls = type(component)
    name, source = getattr(cls, "name", None), getattr(cls, "source", None)
    require(
        isinstance(name, str) and _KEBAB.fullmatch(name), f"expected a kebab-case class attribute name; got {name!r}"
    )
    require(isinstance(source, str) and source.strip(), f"expected a class attribute source with text; got {source!r}")
    for attribute, kind in attributes:
        value = getattr(component, attribute, None)
        require(isinstance(value, kind), f"expected an attribute {attribute} of type {kind.__name__}; got {value!r}")


def require_refused(what: str, error: type[Exception], call: Callable[[], object]) -> None:
    """Require that a call raises this error."""
    try:
        result = call()
    except error:
        return
    except Exception as other:
        raise CheckFailedError(f"{what}: expected {error.__name__}; got {type(other).__name__}: {other}") from other
    raise CheckFailedError(f"{what}: expected {error.__name__}; got {_brief(result)}")


def require_close(what: str, got: Tensor, expected: Tensor, *, mean: float, largest: float) -> None:
    """Require that two tensors have one shape and differ by no more than this, in absolute terms."""
    require(got.shape == expected.shape, f"{what}: expected shape {tuple(expected.shape)}; got {tuple(got.shape)}")
    difference = (got.detach().double().cpu() - expected.detach().double().cpu()).abs()
    require(
        bool(difference.mean() <= mean) and bool(difference.max() <= largest),  # False for NaN
        f"{what}: expected the same values; got differences up to {float(difference.max()):.3g}, "
        f"{float(difference.mean()):.3g} on average",
    )


def within(limit_s: float, call: Callable[[], T]) -> T:
    """Return what a call returns, or raise what it raises, if it does so in time.

    Raises:
        TookTooLongError: it does not; it is left behind in a daemon thread, for no thread can be stopped from outside.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="precomp-check")
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise TookTooLongError(f"expected an answer within {limit_s:g} s; got none")
    if errors:
        raise errors[0]
    return results[0]


def in_threads(count: int, calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return what calls return that run in several threads, all set off at once."""
    gate = threading.Barrier(min(count, len(calls)))
    waited = threading.local()

    def through(call: Callable[[], T]) -> T:
        if not hasattr(waited, "done"):
            waited.done = True
            gate.wait(timeout=120.0)
        return call()

    with ThreadPoolExecutor(gate.parties) as pool:
        return list(pool.map(through, calls))


def natural_batch(count: int, size: tuple[int, int], *, first_seed: int = 0) -> Tensor:
    """Return natural images as a float batch (N, 3, H, W) in [0, 1]."""
    return stack_images([natural_image(*size, seed=first_seed + index) for index in range(count)])


def permuted(count: int) -> list[int]:
    """Return an order in which no item keeps its place."""
    return [*range(1, count), 0]


def copied(module: M, *, train: bool = False) -> M:
    """Return a deep copy in evaluation (or training) mode, whose parameters take gradients; the original stays."""
    duplicate = copy.deepcopy(module)
    return duplicate.train(train).requires_grad_(True)


def gradients(what: str, value: Tensor, images: Tensor) -> Tensor:
    """Return the gradient of a scalar to the images, finite and nonzero for every one of them."""
    require(value.requires_grad, f"{what}: expected a gradient; got a result that is detached from the images")
    (gradient,) = torch.autograd.grad(value, images, allow_unused=True, retain_graph=True)
    require(gradient is not None, f"{what}: expected a gradient to the images; got none")
    assert gradient is not None
    require(bool(torch.isfinite(gradient).all()), f"{what}: expected a finite gradient; got NaN or infinity")
    dead = [index for index, item in enumerate(gradient) if not bool(item.any())]
    require(not dead, f"{what}: expected a gradient to every image; got zeros for image {dead}")
    return gradient


def stray_tensors(module: nn.Module) -> list[str]:
    """Return the attributes of a module that hold tensors which ``module.to`` does not move.

    Its parts are looked at as far as they come from the same package: torchvision's anchors, for instance, lie outside
    the buffers too, and are moved by its own code.
    """
    own = type(module).__module__.partition(".")[0]
    return [
        f"{f'{path}.' if path else ''}{name}"
        for path, part in module.named_modules()
        if part is module or type(part).__module__.partition(".")[0] == own
        for name, value in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules") and next(_tensors(value), None) is not None
    ]


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _tensors(item)


def options_of(cls: type) -> frozenset[str]:
    """Return the keyword-only arguments of a class."""
    parameters = inspect.signature(cls).parameters.values()
    return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def needs_options(cls: type) -> list[str]:
    """Return the keyword-only arguments of a class that have no default."""
    parameters = inspect.signature(cls).parameters
    return sorted(name for name in options_of(cls) if parameters[name].default is parameters[name].empty)


def without_cuda() -> bool:
    """True where there is no CUDA device to try."""
    return not torch.cuda.is_available()


def not_applicable(unless: object, reason: str) -> None:
    """Leave a check that says nothing here."""
    if not unless:
        raise NotApplicableError(reason)


def _brief(result: Any) -> str:
    return f"{type(result).__name__} {tuple(result.shape)}" if isinstance(result, Tensor) else repr(result)[:80]
