"""A sender as a service: POST an image, get the codec's file; a bounded queue, back-pressure, health and metrics.

PRECOMP_MODEL=runs/mine uvicorn --factory app:from_environment
curl --data-binary @photo.png 'http://127.0.0.1:8000/compress?quality=20' > photo.jpg
"""

import asyncio
import math
import mimetypes
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import torch
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from precomp_sdk import ImageError, OptionError, QualityError, Registry, ResourceError
from precomp_sdk.allocator import keep_freed_memory
from precomp_sdk.deploy import CompressedImage, Compressor, QualityTarget, compress_to_target
from precomp_sdk.image_io import ReadSettings, as_image
from precomp_sdk.run import load_compressor

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # of the metrics' histogram


@dataclass(frozen=True)
class Limits:
    """What the service takes on.

    Args:
        workers: images that are worked on at a time, a core each.
        waiting: requests that wait behind them; further ones are sent away.
        max_bytes: of a request's body.
        max_pixels: of an image.
        body_s: how long a body may take to arrive.
    """

    workers: int = 1
    waiting: int = 8
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    body_s: float = 30.0


class Sender:
    """A compressor with a bounded queue, and numbers about it."""

    def __init__(self, compressor: Compressor, limits: Limits) -> None:
        self.compressor, self.limits = compressor, limits
        self.metrics = CollectorRegistry()
        self.requests = Counter("precomp_requests", "Requests by HTTP status.", ["status"], registry=self.metrics)
        self.seconds = Histogram("precomp_work_seconds", "Work on an image.", registry=self.metrics, buckets=SECONDS)
        self.bytes = Counter("precomp_bytes", "Bytes of images and payloads.", ["direction"], registry=self.metrics)
        self.taken = Gauge("precomp_requests_taken", "Requests at work or waiting.", registry=self.metrics)
        self.pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="sender")
        self.under_way = 0
        self.usual_s = 0.1  # of work on an image, averaged over the recent ones
        kind, _ = mimetypes.guess_type(f"image{compressor.codec.suffix()}")
        self.media_type = kind or "application/octet-stream"

    @property
    def full(self) -> bool:
        """Whether a further request would be sent away."""
        return self.under_way >= self.limits.workers + self.limits.waiting

    @contextmanager
    def place(self):  # an iterator of nothing
        """Take a place for one request, or send it away: nothing of it is read, so that memory has a bound."""
        if self.full:
            wait = math.ceil(self.usual_s * self.under_way / self.limits.workers)
            raise HTTPException(503, "busy: try again later", headers={"Retry-After": str(max(1, wait))})
        self.under_way += 1
        self.taken.set(self.under_way)
        try:
            yield
        finally:
            self.under_way -= 1
            self.taken.set(self.under_way)

    async def body(self, request: Request) -> bytes:
        """Read a request's body, as far as it may be long."""
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for part in request.stream():
                    content += part
                    if len(content) > self.limits.max_bytes:
                        raise HTTPException(413, f"expected at most {self.limits.max_bytes} bytes")
        except TimeoutError as error:
            raise HTTPException(408, f"expected the image within {self.limits.body_s:g} s") from error
        return bytes(content)

    def compress(self, content: bytes, target: QualityTarget) -> CompressedImage:
        """Work on one image, in a thread of the pool."""
        begin = time.perf_counter()
        image = as_image(content, settings=ReadSettings(max_pixels=self.limits.max_pixels))
        found = compress_to_target(self.compressor, image, target)
        seconds = time.perf_counter() - begin
        self.usual_s += 0.1 * (seconds - self.usual_s)
        self.seconds.observe(seconds)
        self.bytes.labels("in").inc(len(content))
        self.bytes.labels("out").inc(len(found.payload))
        return found


def create_app(compressor: Compressor, limits: Limits | None = None) -> FastAPI:
    """Return the application."""
    sender = Sender(compressor, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # an image a core: threads on top of that only wait for each other
        yield
        sender.pool.shutdown(wait=True)

    app = FastAPI(title="precomp_sdk sender", lifespan=lifespan)

    @app.post("/compress")
    async def compress(
        request: Request, quality: float | None = None, bpp: float | None = None, max_bytes: int | None = None
    ) -> Response:
        """Compress the image in the body, at a quality or at the best that fits bits per pixel or bytes."""
        with sender.place():
            content = await sender.body(request)
            target = QualityTarget(quality=quality, bits_per_pixel=bpp, max_bytes=max_bytes)
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(sender.pool, sender.compress, content, target)
        told = {"X-Quality": f"{found.quality:g}", "X-Encodes": str(found.encodes)}
        return Response(found.payload, media_type=sender.media_type, headers=told)

    @app.get("/health")
    async def health() -> Response:
        """Say that the service lives, and with 503 that it is full: load balancers then choose another one."""
        return Response("full" if sender.full else "ok", 503 if sender.full else 200, media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Say everything in numbers, as Prometheus reads them."""
        return Response(generate_latest(sender.metrics), media_type=CONTENT_TYPE_LATEST)

    @app.middleware("http")
    async def counted(request: Request, call):  # as Starlette has it
        status = 500
        try:
            response = await call(request)
            status = response.status_code
            return response
        finally:
            if request.url.path == "/compress":
                sender.requests.labels(str(status)).inc()

    async def refused(_: Request, error: Exception) -> Response:
        return Response(str(error), 413 if isinstance(error, ResourceError) else 422, media_type="text/plain")

    for kind in (ImageError, QualityError, OptionError, ResourceError):
        app.add_exception_handler(kind, refused)
    return app


def from_environment() -> FastAPI:
    """Return the application for the model in PRECOMP_MODEL, with PRECOMP_WORKERS images at a time."""
    keep_freed_memory()  # for the next image: this process does nothing else
    workers = int(os.environ.get("PRECOMP_WORKERS", os.cpu_count() or 1))
    waiting = int(os.environ.get("PRECOMP_WAITING", 8 * workers))
    return create_app(load_compressor(os.environ["PRECOMP_MODEL"], Registry()), Limits(workers, waiting))
