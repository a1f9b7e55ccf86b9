"""Load the service on this machine: images a second, p50 and p99, memory, and what it does when it is too much.

    python examples/service/load.py --minutes 10 --output load.json

It starts the service with the command of the container, and keeps as many clients at work as it has places; then four
times as many, for a moment: those that are sent away are told when to come back, and the others wait no longer than
before. Exits with 1 where memory grew, or anything failed.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from precomp_sdk import Compressor, Registry
from precomp_sdk.image_io import encode_png
from precomp_sdk.testing import natural_image

HERE = Path(__file__).resolve().parent
GROWTH = 1.05  # of memory, from the run's second quarter to its second half
COMMAND = (sys.executable, "-m", "uvicorn", "--factory", "app:from_environment")


class Client(threading.Thread):
    """Sends one image after the other, until told to stop."""

    def __init__(self, port: int, body: bytes, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._body, self._stop_asked = port, body, stop
        self.seconds: list[float] = []
        self.sent_away, self.failed = 0, []

    def run(self) -> None:
        """Send, and note what becomes of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while not self._stop_asked.is_set():
            begin = time.perf_counter()
            try:
                connection.request("POST", "/compress?quality=20", self._body)
                answer = connection.getresponse()
                payload = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            if answer.status == 503:
                self.sent_away += 1
                self._stop_asked.wait(float(answer.headers["Retry-After"]))
            elif answer.status == 200 and payload.startswith(b"\xff\xd8"):
                self.seconds.append(time.perf_counter() - begin)
            else:
                self.failed.append(f"{answer.status}: {payload[:200]!r}")
        connection.close()


def load(port: int, clients: int, seconds: float, body: bytes, process: psutil.Process) -> dict:
    """Keep clients at work for a time; return what they saw, and the service's memory meanwhile."""
    stop, memory_mb = threading.Event(), []
    threads = [Client(port, body, stop) for _ in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    while (left := begin + seconds - time.monotonic()) > 0:
        time.sleep(min(left, max(0.2, seconds / 120)))
        memory_mb.append(process.memory_info().rss / 1e6)
    stop.set()
    for thread in threads:
        thread.join()
    took = sorted(second for thread in threads for second in thread.seconds)
    return {
        "clients": clients,
        "seconds": round(time.monotonic() - begin, 1),
        "images": len(took),
        "images_per_s": len(took) / (time.monotonic() - begin),
        "p50_s": took[len(took) // 2] if took else None,
        "p99_s": took[len(took) * 99 // 100] if took else None,
        "sent_away": sum(thread.sent_away for thread in threads),
        "failed": [text for thread in threads for text in thread.failed][:5],
        "memory_mb": [round(value, 1) for value in memory_mb],
    }


def model(folder: Path) -> Path:
    """Write a sender of the kind that is recommended for senders; trained or not, it costs the same."""
    registry = Registry()
    sender = Compressor(registry.create("codec", "jpeg"), registry.create("preprocessor", "qa-smooth"), ladder=(5, 40))
    sender.save(folder / "sender.safetensors")
    return folder / "sender.safetensors"


def wait_until_ready(port: int, server: subprocess.Popen) -> None:
    """Wait for the service's health.

    Raises:
        RuntimeError: it ended, or is not there after three minutes.
    """
    end = time.monotonic() + 180
    while time.monotonic() < end and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the service did not start: {server.poll()}")


def main() -> int:
    """Run the load, print and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a sender for JPEG at quality 20; default: an untrained qa-smooth")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--side", type=int, default=224, help="of the image, in pixels")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    body = encode_png(natural_image(options.side, options.side))
    waiting = 2 * options.workers
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        known = {"PRECOMP_MODEL": str(options.model or model(Path(folder)))}
        known |= {"PRECOMP_WORKERS": str(options.workers), "PRECOMP_WAITING": str(waiting)}
        server = subprocess.Popen(
            [*COMMAND, "--port", str(port), "--no-access-log", "--log-level", "warning"],
            cwd=HERE,
            env={**os.environ, **known},
        )
        try:
            wait_until_ready(port, server)
            process = psutil.Process(server.pid)
            steady = load(port, options.workers + waiting, 60 * options.minutes, body, process)
            crowd = load(port, 4 * (options.workers + waiting), min(20.0, 30 * options.minutes), body, process)
        finally:
            server.terminate()
            status = server.wait(60)
    later = steady["memory_mb"][len(steady["memory_mb"]) // 4 :]
    before, after = max(later[: len(later) // 3 + 1]), max(later[len(later) // 3 :])
    flat = after <= GROWTH * before
    result = {
        "torch": torch.__version__,
        "side_px": options.side,
        "workers": options.workers,
        "waiting": waiting,
        "steady": steady,
        "crowd": crowd,
        "memory_growth": after / before,
        "flat": flat,
        "ended_with": status,
    }
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**result, "steady": {**steady, "memory_mb": "..."}, "crowd": {**crowd, "memory_mb": "..."}}))
    failed = steady["failed"] + crowd["failed"]
    return 0 if flat and not failed and steady["images"] and not steady["sent_away"] else 1


if __name__ == "__main__":
    sys.exit(main())
