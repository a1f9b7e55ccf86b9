"""Components by what a weights file says of them; nothing that it says is carried out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from precomp_sdk._trust import refuse_in_weights
from precomp_sdk.codec import Codec
from precomp_sdk.config import check_options
from precomp_sdk.errors import CheckpointError, ConfigError
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.registry import Registry
from precomp_sdk.task import TaskModel
from precomp_sdk.training import SavedModule, load_module, read_module, rebuild

__all__ = ["codec_of", "digest_of", "load_task_file", "make_codec", "make_preprocessor", "refuse_without_parts"]


def digest_of(module: nn.Module, *more: object) -> str:
    """Return a short name for a module's weights, and for plain JSON values beside them."""
    content = hashlib.sha256(json.dumps(more, sort_keys=True).encode())
    for name, value in sorted(module.state_dict().items()):
        content.update(name.encode())
        if isinstance(value, Tensor):
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def load_task_file(path: Path, registry: Registry, *, trust: bool = False) -> TaskModel:
    """Construct a task as its weights file describes it, load it, and freeze it.

    Raises:
        CheckpointError: the file is damaged, or names more than plain options.
        UnknownNameError: no plugin offers the task.
    """
    saved = read_module(path)
    cls = registry.tasks.get(saved.name)
    options = dict(saved.options) if cls is None else _checked(cls, saved.options, f"{path}, options", trust)
    task: TaskModel = rebuild(lambda: registry.create("task", saved.name, **options), saved, path)
    load_module(path, task, name=task.name)
    return task.eval().requires_grad_(False)


def refuse_without_parts(name: str, registry: Registry, path: Path) -> None:
    """Refuse a preprocessor that works with more than its file holds.

    Raises:
        CheckpointError: it is one.
    """
    cls = registry.preprocessors.get(name)
    if cls is not None and cls.requires:
        raise CheckpointError(
            where=str(path),
            expected=f"the object, as {name!r} works with its {' and '.join(cls.requires)}, which the file lacks",
            got="a file alone",
            remedy="Give preprocessor=, constructed with them; on the command line give the folder of the run.",
        )


def make_codec(
    name: str, options: Mapping[str, Any], registry: Registry, path: Path, trust: bool, max_pixels: int | None = None
) -> Codec:
    """Construct the codec that a file names; what bounds its work is the user's to say, not the file's."""
    cls = registry.codecs.get(name)
    if cls is not None:
        options = {key: value for key, value in options.items() if key not in cls.limits}
        options = _checked(cls, options, f"{path}, codec_options", trust)
        if max_pixels is not None and "max_pixels" in cls.limits:
            options["max_pixels"] = max_pixels
    return registry.create("codec", name, **options)


def make_preprocessor(saved: SavedModule, registry: Registry, path: Path, trust: bool) -> Preprocessor:
    """Construct the preprocessor that a file names, without its weights."""
    cls = registry.preprocessors.get(saved.name)
    options = dict(saved.options) if cls is None else _checked(cls, saved.options, f"{path}, options", trust)
    return rebuild(lambda: registry.create("preprocessor", saved.name, **options), saved, path)


def _checked(cls: type, options: Mapping[str, Any], where: str, trust: bool) -> dict[str, Any]:
    """Return a file's options in the types of the signature.

    Raises:
        CheckpointError: one is unknown, of another type, or more than plain.
    """
    if not trust:
        refuse_in_weights(cls, options, where)
    try:
        return check_options(cls, options, where)
    except ConfigError as error:
        raise CheckpointError(
            where=error.where,
            expected=error.expected,
            got=error.got,
            remedy="The file is damaged, or of another version of the component.",
        ) from error


def codec_of(saved: SavedModule, path: Path) -> tuple[str, dict[str, Any], list[float]]:
    """Return the codec's name, its options and the ladder that a file names."""
    name, options, ladder = (saved.facts.get(key) for key in ("codec", "codec_options", "ladder"))
    numbers = isinstance(ladder, list) and bool(ladder) and all(type(item) in (int, float) for item in ladder)
    wrong = [
        f"{key} = {value!r:.60}" if key in saved.facts else f"no {key}"
        for key, value, right in (
            ("codec", name, isinstance(name, str)),
            ("codec_options", options, isinstance(options, dict)),
            ("ladder", ladder, numbers),
        )
        if not right
    ]
    if wrong:
        raise CheckpointError(
            where=str(path),
            expected="a trained preprocessor with its codec and ladder",
            got=f"a weights file of {saved.name!r} with {', '.join(wrong)}",
            remedy="Give what Compressor.save or a training run wrote.",
        )
    return str(name), dict(options or {}), list(ladder or ())
