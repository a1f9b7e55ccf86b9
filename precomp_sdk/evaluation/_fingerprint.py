"""What an object is, as a digest: weights, options and code. Two objects of one digest give equal results."""

import dataclasses
import functools
import hashlib
import sys
import threading
import types
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from enum import Enum
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["UnknownContentError", "fingerprint", "image_fingerprint"]

_STATELESS = (type(threading.Lock()), type(threading.RLock()), threading.local, Executor)  # carry no setting
_MODULE_STATE = frozenset({"_parameters", "_buffers", "_modules", "training"})  # seen to below, or put back by callers
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, PurePath)


class UnknownContentError(Exception):
    """An object holds something whose content cannot be told, such as an open file."""


def fingerprint(*objects: Any) -> str:
    """Return a digest of everything that the objects' results can depend on.

    Weights and buffers count by their values, classes and functions by their code (a package that is installed counts
    by its version, any other by its source files), everything else by its attributes, private ones too. An object that
    says what it is has a method ``__fingerprint__``; locks, thread pools and what is local to a thread say nothing.

    Raises:
        UnknownContentError: the content of a part cannot be told.
    """
    digest = _Digest()
    for item in objects:
        digest.add(item)
    return digest.hexdigest()


def image_fingerprint(image: Tensor, target: object) -> str:
    """Return a digest of an image with its target."""
    return fingerprint(image, target)


class _Digest:
    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._seen: dict[int, int] = {}
        self._held: list[object] = []  # so that no two objects have one id

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, item: Any) -> None:
        """Add one object; what was met before is told by its place, which also ends circles."""
        if isinstance(item, Enum):
            self._say("enum", type(item).__qualname__, item.name)
        elif isinstance(item, _PLAIN):
            self._say(type(item).__name__, repr(item))
        elif id(item) in self._seen:
            self._say("again", str(self._seen[id(item)]))
        else:
            self._seen[id(item)] = len(self._seen)
            self._held.append(item)
            self._add_new(item)

    def _say(self, *words: str) -> None:
        for word in words:
            data = word.encode("utf-8", "surrogatepass")
            self._hash.update(len(data).to_bytes(8, "little") + data)

    def _add_new(self, item: Any) -> None:
        if isinstance(item, Tensor):
            self._tensor(item)
        elif isinstance(item, np.ndarray | np.generic):
            self._array(np.asarray(item))
        elif hasattr(type(item), "__fingerprint__"):
            self._say("own", _name(type(item)))
            self.add(item.__fingerprint__())
        elif isinstance(item, Mapping):
            self._say("mapping", _name(type(item)), str(len(item)))
            self._parts([part for pair in item.items() for part in pair])
        elif isinstance(item, set | frozenset):
            self._say("set", *sorted(fingerprint(part) for part in item))
        elif isinstance(item, list | tuple | Sequence | Collection) and not isinstance(item, nn.Module):
            self._say("sequence", _name(type(item)), str(len(item)))
            self._parts(list(item))
        elif isinstance(item, type):
            self._say("class", _name(item), _code_of(item.__module__))
        elif isinstance(item, types.ModuleType):
            self._say("module", item.__name__)
        elif isinstance(item, types.FunctionType | types.MethodType | types.BuiltinFunctionType | functools.partial):
            self._function(item)
        elif isinstance(item, _STATELESS):
            self._say("stateless", _name(type(item)))
        else:
            self._object(item)

    def _parts(self, parts: Sequence[Any]) -> None:
        for part in parts:
            self.add(part)

    def _tensor(self, tensor: Tensor) -> None:
        plain = tensor.detach().cpu().contiguous()
        self._say("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        if plain.numel():
            self._hash.update(plain.reshape(-1).view(torch.uint8).numpy().data)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self._say("array", str(array.dtype), str(array.shape))
        if array.dtype.hasobject:
            self._parts(list(array.reshape(-1)))
        else:
            self._hash.update(np.ascontiguousarray(array).tobytes())

    def _function(self, function: Any) -> None:
        if isinstance(function, functools.partial):
            self._say("partial")
            self._parts([function.func, function.args, function.keywords])
        elif isinstance(function, types.MethodType):
            self._say("method")
            self._parts([function.__func__, function.__self__])
        elif isinstance(function, types.BuiltinFunctionType):
            self._say("builtin", f"{function.__module__}.{function.__qualname__}")
        else:
            self._say("function", f"{function.__module__}.{function.__qualname__}", _code_of(function.__module__))
            cells = [cell.cell_contents for cell in function.__closure__ or ()]
            self._parts([function.__code__.co_code, *cells, function.__defaults__, function.__kwdefaults__])

    def _object(self, item: Any) -> None:
        """Add an object by its class and its attributes; a module also by its parameters, buffers and parts."""
        kind = type(item)
        self._say("object", _name(kind), _code_of(kind.__module__))
        if dataclasses.is_dataclass(item):
            self._parts([(field.name, getattr(item, field.name)) for field in dataclasses.fields(item)])
            return
        slots = {name for cls in kind.__mro__ for name in _slots(cls)}
        attributes = {name: getattr(item, name) for name in sorted(slots) if hasattr(item, name)}
        attributes.update(getattr(item, "__dict__", {}))
        if not attributes and not hasattr(item, "__dict__") and not slots:
            raise UnknownContentError(_name(kind))
        if isinstance(item, nn.Module):
            attributes = {name: value for name, value in attributes.items() if name not in _MODULE_STATE}
            attributes = {
                name: value for name, value in attributes.items() if not (name.endswith("_hooks") and not value)
            }
            for group in (item._parameters, item._buffers, item._modules):
                self._parts([part for pair in group.items() for part in pair])
        self._parts([part for pair in sorted(attributes.items()) for part in pair])


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@functools.cache
def _code_of(module: str) -> str:
    """Return what stands for a module's code: the version of an installed package, else its source files' digest."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"python {sys.version}"
    found = sys.modules.get(top) or sys.modules.get(module)
    path = getattr(found, "__file__", None)
    if path is None:
        found = sys.modules.get(module)
        path = getattr(found, "__file__", None)
    if path is None:
        return "no file"  # typed in: its functions' code is told, and nothing else can be
    file = Path(path)
    if not {"site-packages", "dist-packages"} & set(file.parts):
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        digest = hashlib.blake2b(digest_size=16)
        for source in files:
            digest.update(str(source.relative_to(file.parent)).encode() + b"\0" + source.read_bytes() + b"\0")
        return digest.hexdigest()
    return "; ".join(f"{name} {_version(name)}" for name in sorted(set(_distributions().get(top, [top]))))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
