"""Encode and decode from several threads for a long time: memory, file descriptors and threads must stay flat.

    python benchmarks/soak.py --minutes 30

Every thread takes turns at all installed codecs, sizes and qualities, and at damaged payloads. Each half minute the
process's resident memory, open descriptors and threads are noted; after the first quarter they may not grow.
"""

import argparse
import itertools
import json
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from precomp_sdk import BitstreamError, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.testing import natural_image

HERE = Path(__file__).parent
SIZES = ((33, 47), (128, 96), (256, 256))
GROWTH = 1.10  # of memory, over the run's second to last quarter: allocators breathe


def work(codecs: list, stop: threading.Event, counts: list[int], place: int) -> None:
    """Send images through codecs until told to stop."""
    images = [natural_image(*size, seed=place) for size in SIZES]
    for codec, image in itertools.cycle(itertools.product(codecs, images)):
        if stop.is_set():
            return
        ladder = codec.quality_scale.ladder
        payload = codec.encode(image, ladder[counts[place] % len(ladder)])
        assert codec.decode(payload).shape == image.shape
        try:
            codec.decode(payload[: len(payload) // 2])
        except BitstreamError:
            counts[place] += 1
        else:
            counts[place] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--every-s", type=float, default=None, help="between two notes; default: a sixtieth of the run")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soak.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = Registry()
    able = [item.name for item in registry.components() if item.kind == "codec" and not item.missing()]
    codecs = [registry.create("codec", name) for name in able]
    stop, counts = threading.Event(), [0] * options.threads
    threads = [threading.Thread(target=work, args=(codecs, stop, counts, place)) for place in range(options.threads)]
    process, notes = psutil.Process(), []
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end and all(thread.is_alive() for thread in threads):
        time.sleep(options.every_s or options.minutes)
        descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        notes.append([process.memory_info().rss / 1e6, descriptors, process.num_threads()])
    failed = not all(thread.is_alive() for thread in threads)
    stop.set()
    for thread in threads:
        thread.join()
    later = notes[len(notes) // 4 :]
    half = max(1, len(later) // 2)
    before, after = (max(row[0] for row in part) for part in (later[:half], later[half:]))
    steady = all(max(row[place] for row in later[half:]) <= max(row[place] for row in later[:half]) for place in (1, 2))
    result = {
        "codecs": able,
        "minutes": options.minutes,
        "threads": options.threads,
        "images": sum(counts),
        "memory_mb": [round(notes[0][0]), round(before), round(after)],
        "descriptors": [notes[0][1], later[0][1], notes[-1][1]],
        "process_threads": [notes[0][2], later[0][2], notes[-1][2]],
        "flat": not failed and steady and after <= GROWTH * before,
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(not result["flat"])


if __name__ == "__main__":
    main()
