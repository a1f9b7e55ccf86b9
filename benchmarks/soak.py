"""Encode and decode from several threads for a long time: memory, file descriptors and threads must stay flat.

    python benchmarks/soak.py --minutes 30

Every thread takes turns at all installed codecs, sizes and qualities, and at damaged payloads. Sixty times the workers
stop between two images and what the process then holds is noted: resident memory, open descriptors, threads. At such a
moment x265 and dav1d hold no thread; while they code they have one or more for each open encoder or decoder, which is
why a count in the middle of the work moves between 9 and 17. After the first quarter nothing may grow.
"""

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor

from precomp_sdk import BitstreamError, Codec, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.testing import natural_image

HERE = Path(__file__).parent
SIZES = ((33, 47), (128, 96), (256, 256))
GROWTH = 1.10  # of memory, over the run's second to last quarter: allocators breathe


class Workers:
    """Threads that code images until told to stop, and stand still when asked to."""

    def __init__(self, codecs: list, count: int) -> None:
        self.codecs = codecs
        self.images = [0] * count
        self.stops, self.pauses = threading.Event(), threading.Event()
        self.gate = threading.Barrier(count + 1)
        self.threads = [threading.Thread(target=self._work, args=(place,)) for place in range(count)]
        for thread in self.threads:
            thread.start()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let every worker end its image and wait; ``BrokenBarrierError`` where one has failed."""
        self.pauses.set()
        self.gate.wait()
        self.pauses.clear()
        yield
        self.gate.wait()

    def end(self) -> None:
        """Tell the workers to stop, and wait for them."""
        self.stops.set()
        for thread in self.threads:
            thread.join()
        time.sleep(1.0)  # Python's join returns a moment before the system's thread has ended

    def _work(self, place: int) -> None:
        try:
            images = [natural_image(*size, seed=place) for size in SIZES]
            for codec, image in itertools.cycle(itertools.product(self.codecs, images)):
                if self.pauses.is_set():
                    self.gate.wait()
                    self.gate.wait()
                if self.stops.is_set():
                    return
                self.images[place] += code(codec, image, self.images[place])
        except BaseException:
            self.gate.abort()
            raise


def code(codec: Codec, image: Tensor, number: int) -> int:
    """Encode and decode an image, and decode half a payload; return 1, an image."""
    ladder = codec.quality_scale.ladder
    payload = codec.encode(image, ladder[number % len(ladder)])
    assert codec.decode(payload).shape == image.shape
    with suppress(BitstreamError):
        codec.decode(payload[: len(payload) // 2])
    return 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soak.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = Registry()
    able = [item.name for item in registry.components() if item.kind == "codec" and not item.missing()]
    codecs = [registry.create("codec", name) for name in able]
    process, notes, failed = psutil.Process(), [], False
    own = process.num_threads()
    workers = Workers(codecs, options.threads)
    end = time.monotonic() + 60 * options.minutes
    try:
        while time.monotonic() < end:
            time.sleep(options.minutes)  # a sixtieth of the run
            with workers.standing_still():
                time.sleep(0.05)  # a thread that has been joined takes a moment to end
                descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
                notes.append([process.memory_info().rss / 1e6, descriptors, process.num_threads()])
    except threading.BrokenBarrierError:
        failed = True
    workers.end()
    later = notes[len(notes) // 4 :]
    half = max(1, len(later) // 2)
    before, after = (max(row[0] for row in part) for part in (later[:half], later[half:]))
    steady = all(max(row[place] for row in later[half:]) <= max(row[place] for row in later[:half]) for place in (1, 2))
    result = {
        "codecs": able,
        "minutes": options.minutes,
        "threads": options.threads,
        "images": sum(workers.images),
        "memory_mb": [round(notes[0][0]), round(before), round(after)],
        "descriptors": [notes[0][1], later[0][1], notes[-1][1]],
        "process_threads": [notes[0][2], later[0][2], notes[-1][2]],
        "left_behind": process.num_threads() - own,
        "flat": not failed and steady and process.num_threads() <= own and after <= GROWTH * before,
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(not result["flat"])


if __name__ == "__main__":
    main()
