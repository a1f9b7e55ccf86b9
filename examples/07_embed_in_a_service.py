"""Embed it in a service: objects in, objects out; no registry, no config file, no printing, your own logging."""

import logging

from precomp_sdk import Event, Notice, PrecompError, StepDone
from precomp_sdk.deploy import Compressor
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

log = logging.getLogger("service")


class CompressionService:
    """Trains on what a customer sends, then answers requests; every error of the SDK is one type."""

    def __init__(self) -> None:
        self.steps = 0
        self._sender: Compressor | None = None

    def train(self, images: FakeDataset) -> None:
        """Train on images."""
        codec, network = FakeCodec(), FakePreprocessor()
        settings = TrainSettings(steps=10, batch_size=4, warmup_steps=1, ladder=(5, 30), lambdas={5: 2.0, 30: 2.0})
        Trainer(
            codec=codec, proxy=FakeProxy(codec), preprocessor=network, task=FakeTask(), settings=settings,
            observer=self._observe,
        ).run(images)  # fmt: skip
        self._sender = Compressor(codec, network, ladder=settings.ladder)

    def compress(self, request: dict[str, object]) -> tuple[int, bytes | str]:
        """Answer one request with a status and a payload or a message."""
        assert self._sender is not None
        try:
            return 200, self._sender.compress(request["image"], request["quality"])  # type: ignore[arg-type]
        except PrecompError as error:
            return 400, f"{error.where}: expected {error.expected}"

    def _observe(self, event: Event) -> None:
        match event:
            case StepDone():
                self.steps = event.step
            case Notice():
                log.warning("%s", event.message)


service = CompressionService()
service.train(FakeDataset(count=40))
image = FakeDataset(count=1)[0].image
status, payload = service.compress({"image": image, "quality": 30})
refused, message = service.compress({"image": image, "quality": 99})
print(service.steps, status, len(payload), refused, message)
assert (service.steps, status, refused) == (10, 200, 400)
