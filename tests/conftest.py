"""Fixtures for all tests."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from precomp_sdk import Codec, Preprocessor, ProxyCodec, Registry, TaskDataset, TaskModel, hookimpl
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads on top of that only wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images to measure on; they lie beside the checkout where there are any."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder


class Doubles:
    """The proxies of precomp_sdk.testing as a plugin; each kind has one component, named ``fake``."""

    @hookimpl
    def precomp_register_codecs(self) -> list[type[Codec]]:
        return [FakeCodec]

    @hookimpl
    def precomp_register_proxies(self) -> list[type[ProxyCodec]]:
        return [FakeProxy]

    @hookimpl
    def precomp_register_preprocessors(self) -> list[type[Preprocessor]]:
        return [FakePreprocessor]

    @hookimpl
    def precomp_register_tasks(self) -> list[type[TaskModel]]:
        return [FakeTask]

    @hookimpl
    def precomp_register_datasets(self) -> list[type[TaskDataset]]:
        return [FakeDataset]


@pytest.fixture
def doubles() -> Registry:
    """A registry of nothing but the proxies."""
    registry = Registry(entry_points=False)
    registry.register(Doubles(), "doubles")
    return registry


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    """A small, complete experiment with the proxies, as tables; it runs in a few seconds."""
    return {
        "codec": {"name": "fake"},
        "proxy": {},
        "preprocessor": {"name": "fake"},
        "task": {"name": "fake"},
        "data": {"train": {"name": "fake", "count": 30}, "val": {"name": "fake", "count": 12, "seed": 1}},
        "train": {
            "steps": 8,
            "batch_size": 4,
            "learning_rate": 0.05,
            "warmup_steps": 1,
            "ladder": [5, 30],
            "lambdas": {"5": 0.5, "30": 2.0},
            "held_out_images": 4,
            "held_out_every": 4,
            "calibration_images": 4,
            "checkpoint_every": 3,
        },
        "evaluate": {"ladder": [5, 30], "baselines": [], "replicates": 20},
        "output": {"folder": str(tmp_path / "run"), "tensorboard": False},
    }
