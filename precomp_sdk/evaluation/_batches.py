"""Plumbing of the measurement: pictures loaded ahead, and networks put into evaluation mode."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from precomp_sdk.data import SkippedSample, TaskDataset, load_samples
from precomp_sdk.records import Sample

__all__ = ["LoadedBatch", "evaluating", "load_batches"]


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """Pictures that are held together, and their places in the data set."""

    indices: list[int]
    samples: list[Sample]
    skipped: list[SkippedSample]


def load_batches(dataset: TaskDataset, batch_size: int, *, skip_unreadable: bool) -> Iterator[LoadedBatch]:
    """Load a data set in batches, in order; the next batch is loaded in a thread while this one is worked on.

    Raises:
        DatasetError: a picture cannot be read and is not to be skipped.
    """

    def load(start: int) -> LoadedBatch:
        batch = LoadedBatch([], [], [])
        for index in range(start, min(start + batch_size, len(dataset))):
            loaded, left_out = load_samples(dataset, [index], skip_unreadable=skip_unreadable)
            batch.indices.extend([index] * len(loaded))
            batch.samples.extend(loaded)
            batch.skipped.extend(left_out)
        return batch

    starts = range(0, len(dataset), batch_size)
    with ThreadPoolExecutor(1, thread_name_prefix="precomp-load") as pool:
        following = pool.submit(load, 0)
        for start in starts:
            batch = following.result()
            if start != starts[-1]:
                following = pool.submit(load, start + batch_size)
            yield batch


@contextmanager
def evaluating(*networks: nn.Module, device: torch.device | None) -> Iterator[None]:
    """Put networks into evaluation mode, on the device and without gradients; each part gets its own mode back."""
    modes = {part: part.training for network in networks for part in network.modules()}
    try:
        for network in networks:
            network.eval()
            if device is not None:
                network.to(device)
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training
