"""The service: what it answers, what it refuses, and that its container runs what CI runs."""

import importlib.util
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from precomp_sdk import Compressor
from precomp_sdk.image_io import encode_png, read_image
from precomp_sdk.testing import FakeCodec, FakePreprocessor, natural_image

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "service"
IMAGE = encode_png(natural_image(20, 30))
needs_service = pytest.mark.interop


@pytest.fixture(scope="module")
def app() -> ModuleType:
    for package in ("fastapi", "httpx", "prometheus_client"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("service_app", FOLDER / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["service_app"] = module
    spec.loader.exec_module(module)
    return module


def client(app: ModuleType, compressor: Compressor | None = None, **limits: Any) -> Any:
    from fastapi.testclient import TestClient

    compressor = compressor or Compressor(FakeCodec(), FakePreprocessor(gain=0.5), ladder=(5, 70))
    return TestClient(app.create_app(compressor, app.Limits(**limits)))


@needs_service
def test_an_image_comes_back_as_the_codecs_file(app: ModuleType) -> None:
    compressor = Compressor(FakeCodec(), FakePreprocessor(gain=0.5), ladder=(5, 70))
    with client(app, compressor) as service:
        answer = service.post("/compress?quality=30", content=IMAGE)
        assert answer.status_code == 200
        assert answer.content == compressor.compress(read_image(IMAGE), 30)
        assert answer.headers["X-Quality"] == "30"
        small = service.post("/compress?max_bytes=600", content=IMAGE)
        assert len(small.content) <= 600
        assert service.get("/health").text == "ok"
        metrics = service.get("/metrics").text
    assert 'precomp_requests_total{status="200"} 2.0' in metrics
    assert f'precomp_bytes_total{{direction="in"}} {2.0 * len(IMAGE)}' in metrics
    assert "precomp_requests_taken 0.0" in metrics


@needs_service
@pytest.mark.parametrize(
    ("query", "content", "status", "told"),
    [
        ("quality=99", IMAGE, 422, "from 5 to 70"),
        ("", IMAGE, 422, "one of a quality, bits per pixel, and bytes"),
        ("quality=30", b"no image", 422, "image"),
        ("quality=30", b"", 422, "image"),
        ("quality=high", IMAGE, 422, "valid number"),
        ("quality=30", IMAGE + bytes(20_000), 413, "at most 20000 bytes"),
        ("quality=30", encode_png(natural_image(90, 90)), 422, "pixels"),
    ],
)
def test_what_is_wrong_is_told_and_the_place_given_back(
    app: ModuleType, query: str, content: bytes, status: int, told: str
) -> None:
    with client(app, workers=1, waiting=0, max_bytes=20_000, max_pixels=8000) as service:
        answer = service.post(f"/compress?{query}", content=content)
        assert (answer.status_code, told in answer.text) == (status, True), answer.text
        assert service.post("/compress?quality=30", content=IMAGE).status_code == 200


class Held(FakeCodec):
    """A codec that waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def _encode(self, image: Any, quality: float) -> bytes:
        self.begun.set()
        assert self.go.wait(60)
        return super()._encode(image, quality)


@needs_service
def test_a_full_queue_sends_away_and_says_when_to_come_back(app: ModuleType) -> None:
    codec = Held()
    answers: list[Any] = []
    with client(app, Compressor(codec, FakePreprocessor(gain=0.5)), workers=1, waiting=1) as service:

        def send() -> None:
            answers.append(service.post("/compress?quality=30", content=IMAGE))

        waiting = [threading.Thread(target=send) for _ in range(2)]
        for thread in waiting:
            thread.start()
        assert codec.begun.wait(60)
        while "precomp_requests_taken 2.0" not in service.get("/metrics").text:
            pass
        refused = service.post("/compress?quality=30", content=IMAGE)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert service.get("/health").status_code == 503
        codec.go.set()
        for thread in waiting:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert service.get("/health").status_code == 200


@needs_service
@pytest.mark.slow
def test_the_load_script_measures(app: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    command = [
        sys.executable,
        FOLDER / "load.py",
        "--minutes",
        "0.1",
        "--side",
        "64",
        "--output",
        tmp_path / "load.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    found = json.loads((tmp_path / "load.json").read_text())
    assert done.returncode in (0, 1), done.stderr
    assert found["steady"]["images"] > 0
    assert found["steady"]["failed"] == found["crowd"]["failed"] == []
    assert found["crowd"]["sent_away"] > 0
    assert found["ended_with"] in (0, -15)


def test_the_container_runs_what_ci_runs() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    steps = re.findall(r"^RUN (.+)$", dockerfile, flags=re.MULTILINE)
    assert len(steps) >= 3
    assert not any(step.endswith("\\") for step in steps)  # each is one line, as CI reads them
    read = "sed -n 's/^RUN //p' examples/service/Dockerfile"
    assert f"{read} | bash -euxo pipefail" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    shown = subprocess.run(["bash", "-c", read], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == steps
    load = (FOLDER / "load.py").read_text(encoding="utf-8")
    command = json.loads(re.findall(r"^CMD (.+)$", dockerfile, flags=re.MULTILINE)[0])
    started = re.search(r"^COMMAND = \(sys.executable, (.+)\)$", load, flags=re.MULTILINE)
    assert started is not None
    assert command[1:5] == [word.strip('" ') for word in started[1].split(",")]
    for line in re.findall(r"examples/service/[\w.]+", "\n".join(steps)):
        assert (ROOT / line).exists()
