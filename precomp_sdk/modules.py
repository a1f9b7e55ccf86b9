"""What is done to any module: evaluation mode for a while, and where its weights are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["compiled", "device_of", "evaluation_mode", "given_back", "to_device"]

_LOCK = threading.Lock()
_USES: dict[nn.Module, tuple[int, bool]] = {}  # of modules inside an evaluation_mode: how many, and the mode before


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode; afterwards every submodule has its own mode again, also after an error.

    Only the ``training`` flags change, on the way in and on the way out: a batch normalization that its owner froze
    stays frozen, a module that was in evaluation mode before stays so, and a subclass's ``train`` is not called.
    Gradients, devices and weights are not touched.

    Threads: uses of one module may overlap, in several threads or one inside another. It is in evaluation mode for as
    long as any of them lasts, and the last one to end gives it its mode back. What must not run twice at once needs a
    lock of its own: see `precomp_sdk.module_reference.ModuleReference`.

    Args:
        modules: with all their submodules; one that is given twice, or is part of another, counts once. One that
            TorchScript has frozen has no mode, and stays as it is.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3).eval())
        >>> with evaluation_mode(network):
        ...     [part.training for part in network]
        [False, False]
        >>> [part.training for part in network]
        [True, False]
    """
    parts = list(dict.fromkeys(part for module in modules for part in module.modules() if hasattr(part, "training")))
    with _LOCK:
        switched = {part for part in parts if part in _USES and part.training}  # to training, inside another use
        for part in parts:
            uses, before = _USES.get(part, (0, part.training))
            _USES[part] = uses + 1, before
            part.training = False
    try:
        yield
    finally:
        with _LOCK:
            for part in parts:
                uses, before = _USES.pop(part)
                if uses > 1:
                    _USES[part] = uses - 1, before
                    part.training = part in switched
                else:
                    part.training = before


@contextmanager
def given_back(*modules: nn.Module) -> Iterator[None]:
    """Let modules be changed for a while; modes, what is frozen and memory layouts are afterwards as before.

    Each submodule has its own mode again and each parameter its ``requires_grad``, also after an error. Weights and
    devices stay as they then are.

    Args:
        modules: with all their submodules.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> with given_back(network):
        ...     network = network.eval().requires_grad_(False)
        >>> network.training, network.weight.requires_grad
        (True, True)
    """
    modes = {part: part.training for module in modules for part in module.modules()}
    learns = {parameter: parameter.requires_grad for module in modules for parameter in module.parameters()}
    plain = [
        module for module in modules if all(item.is_contiguous() for item in (*module.parameters(), *module.buffers()))
    ]
    try:
        yield
    finally:
        for module in plain:
            module.to(memory_format=torch.contiguous_format)
        for part, training in modes.items():
            part.training = training
        for parameter, wanted in learns.items():
            parameter.requires_grad_(wanted)


def device_of(module: nn.Module, default: torch.device | str = "cpu") -> torch.device:
    """Return the device of a module's first parameter, of its first buffer where it has none, or ``default``.

    Args:
        module: whose inputs are to be brought to it.
        default: where a module without any tensor works.

    Example:
        >>> device_of(nn.ReLU())
        device(type='cpu')
    """
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device(default)


def to_device(batch: Tensor, device: torch.device | str | None) -> Tensor:
    """Return a batch on a device; the way to a GPU is by pinned memory, and the program does not wait for it.

    Example:
        >>> to_device(torch.zeros(1, 3, 4, 4), "cpu").device
        device(type='cpu')
    """
    if batch.device.type == "cpu" and torch.device(device or "cpu").type == "cuda":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


@contextmanager
def compiled(*modules: nn.Module) -> Iterator[None]:
    """Let `torch.compile` have the networks inside modules for a while, at their first call of each size.

    What is compiled are a module's direct children, the networks that it is built of: its own checks and lists stay
    Python. Weights, their names, and copies are untouched, and afterwards the children are what they were.

    Args:
        modules: of tasks, preprocessors and the like.
    """
    children = [child for module in modules for child in module.children()]
    before = [child._compiled_call_impl for child in children]
    try:
        for child in children:
            child.compile()
        yield
    finally:
        for child, call in zip(children, before, strict=True):
            child._compiled_call_impl = call
