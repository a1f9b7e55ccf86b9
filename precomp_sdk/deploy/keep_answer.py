"""The strongest compression at which a network still answers the same."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from precomp_sdk.chooser import answers_differ
from precomp_sdk.deploy.compressed_image import CompressedImage
from precomp_sdk.errors import OptionError
from precomp_sdk.image_io import as_image
from precomp_sdk.images import to_float
from precomp_sdk.task import TaskModel

if TYPE_CHECKING:
    from precomp_sdk.deploy.compressor import Compressor

__all__ = ["KeepAnswer"]

_WHERE: Final = "KeepAnswer"
_MASK_TOLERANCE: Final = 0.02  # of the pixels: a border moves by itself


class KeepAnswer:
    """Chooses for each image the strongest compression at which a network answers as it does on the clean image.

    Any `TaskModel` will do, also one around a black box: it is only asked for predictions, and `answers_differ` says
    what counts as the same. The quality is found by bisection over the codec's scale, between the ends of the sender's
    ladder, and what is taken was decoded and asked about: nothing is foretold. Where no quality that was tried keeps
    the answer, the mildest is taken, and the reason says so.

    Args:
        task: the network, or what makes it, once in each worker.
        name: of the network in records; default: the task's own. Another name does files of a bulk job again.
        tolerance: the share of an answer that may differ; None: none of it, but for 2% of the pixels of a mask.
        score: boxes below this score are no answer.
        max_encodes: how often an image may be encoded to find out, two or more.

    Raises:
        OptionError: a number is out of its range, or what makes the network has no name.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeTask
        >>> from precomp_sdk import Compressor
        >>> sender = Compressor(FakeCodec(), FakePreprocessor())
        >>> image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
        >>> next(sender.compress_many([image], KeepAnswer(FakeTask()))).encodes <= 8
        True
    """

    def __init__(
        self,
        task: TaskModel | Callable[[], TaskModel],
        *,
        name: str | None = None,
        tolerance: float | None = None,
        score: float = 0.3,
        max_encodes: int = 8,
    ) -> None:
        own = task.name if isinstance(task, TaskModel) else name
        if own is None:
            raise OptionError.value(_WHERE, "name", "a name beside what makes the network", name, "Give one.")
        if tolerance is not None and not 0.0 <= tolerance < 1.0:
            raise OptionError.number(_WHERE, "tolerance", "a number from 0 to below 1", tolerance)
        if not 0.0 <= score <= 1.0:
            raise OptionError.number(_WHERE, "score", "a number from 0 to 1", score)
        if max_encodes < 2:
            raise OptionError.number(_WHERE, "max_encodes", "a whole number from 2", max_encodes)
        self._given: TaskModel | Callable[[], TaskModel] = task
        self._task: TaskModel | None = None
        self.name: str = own if name is None else name
        self.tolerance: float | None = tolerance
        self.score: float = score
        self.max_encodes: int = max_encodes

    @property
    def task(self) -> TaskModel:
        """The network, made at the first use, in evaluation mode."""
        if self._task is None:
            made = self._given if isinstance(self._given, TaskModel) else self._given()
            self._task = made.eval()
        return self._task

    def __str__(self) -> str:
        tolerance = "" if self.tolerance is None else f", tolerance {self.tolerance:g}"
        return f"answer of {self.name}{tolerance}, score {self.score:g}, {self.max_encodes} encodes"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network out where it can be made again."""
        return {**self.__dict__, "_task": None}

    def keep(self, compressor: "Compressor", image: Any) -> CompressedImage:
        """Compress one image so.

        Args:
            compressor: the sender, without a chooser: qualities are the codec's.
            image: as `Compressor.compress` takes it.

        Raises:
            PrecompError: as `Compressor.compress` raises it.
            OptionError: two answers cannot be compared.
        """
        image = as_image(image)
        clean = self._ask(image)
        scale = compressor.codec.quality_scale
        strengths = sorted(scale.strength(quality) for quality in compressor.ladder)
        mild, strong = strengths[0], strengths[-1]
        kept: CompressedImage | None = None
        lost: float | None = None  # the mildest quality that loses the answer
        tried: set[float] = set()
        strength = (mild + strong) / 2
        while len(tried) < self.max_encodes - 1:  # one is left for the mildest
            quality = scale.quality(strength)
            if quality in tried:
                break
            tried.add(quality)
            found = compressor.compress_chosen(image, quality)
            if self._same(clean, compressor, found.payload, image):
                kept, mild = found, strength
            else:
                lost, strong = quality, strength
            # the strongest of all is looked at where everything so far kept the answer
            strength = strong if lost is None and strength != strong else (mild + strong) / 2
        if kept is not None:
            reason = f"{self.name} answers the same" + (f", and not at {lost:g}" if lost is not None else "")
            return CompressedImage(kept.payload, kept.quality, len(tried), reason, kept.resolution)
        quality = scale.quality(strengths[0])
        found = compressor.compress_chosen(image, quality)
        same = self._same(clean, compressor, found.payload, image)
        told = f"{self.name} answers the same" if same else f"{self.name} answers otherwise even here: the mildest"
        return CompressedImage(found.payload, quality, len(tried | {quality}), told, found.resolution)

    def _same(self, clean: Any, compressor: "Compressor", payload: bytes, image: Tensor) -> bool:
        received = compressor.decompress(payload, (int(image.shape[1]), int(image.shape[2])))
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = _MASK_TOLERANCE if isinstance(clean, Tensor) and clean.ndim > 1 else 0.0
        return answers_differ(clean, self._ask(received), score=self.score) <= tolerance

    @torch.no_grad()
    def _ask(self, image: Tensor) -> Any:
        return self.task.predict(to_float(image)[None])[0]
