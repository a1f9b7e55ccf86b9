"""Runs of doubles, and what they leave."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from precomp_sdk import (
    Codec,
    Event,
    ProxyCodec,
    Registry,
    StepDone,
    hookimpl,
)
from precomp_sdk.config import parse_experiment
from precomp_sdk.run import run_training
from precomp_sdk.testing import FakeCodec, FakeProxy
from precomp_sdk.training import read_module

__all__ = ["Learned", "More", "Other", "Tables", "equal", "interrupt", "trained", "weights_of"]

Tables = dict[str, Any]


class Learned(FakeProxy):
    """Of no use before it was fitted, and for any codec."""

    name = "learned"
    codec_name = "*"
    needs_fitting = True


class Other(FakeCodec):
    name = "other"


class More:
    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [Other]

    @hookimpl
    def precomp_register_proxies(self) -> list[type[ProxyCodec]]:
        return [Learned]


def trained(tables: Tables, registry: Registry, *overrides: str, **options: Any) -> Any:
    return run_training(parse_experiment(tables, overrides=overrides), registry, **options)


def weights_of(folder: Path, name: str = "preprocessor") -> dict[str, Tensor]:
    return dict(read_module(folder / f"{name}.safetensors").weights)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def interrupt(stage: str, step: int) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        if isinstance(event, StepDone) and (event.stage, event.step) == (stage, step):
            raise KeyboardInterrupt

    return observe
