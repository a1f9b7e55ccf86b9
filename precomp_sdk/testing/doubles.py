"""Small doubles of the five contracts: quick, deterministic and real enough to train and to measure with.

Together they form a world in which everything the package does can be seen in seconds: `FakeDataset` draws gratings,
`FakeTask` tells their direction, `FakeCodec` writes a real bitstream that coarse steps make shorter and worse,
`FakeProxy` follows it differentiably, and `FakePreprocessor` can save bits by smoothing.
"""

import math
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import BitstreamError, DatasetError
from precomp_sdk.images import to_float, to_uint8
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.quality import QualityScale
from precomp_sdk.scoring import LabelScorer
from precomp_sdk.targets import Label, Target
from precomp_sdk.task import TaskModel
from precomp_sdk.types import ProxyOutput

__all__ = ["FakeCodec", "FakeDataset", "FakePreprocessor", "FakeProxy", "FakeTask"]

_HEADER = struct.Struct(">4sHHB")  # magic, height, width, step
_MAGIC = b"FAKE"
_TASK_PERIOD_PX = 5.0
_TASK_KERNEL_PX = 9


def _step(strength: float) -> int:
    return round(2 ** (7 * strength))


class FakeCodec(Codec):
    """Rounds samples to multiples of a step (1 at quality 100, 128 at quality 1); zlib packs the row differences.

    Args:
        level: zlib's effort, 0 to 9.
    """

    name = "fake"
    source = "a double: scalar quantization and RFC 1950"
    quality_scale: ClassVar[QualityScale] = QualityScale(
        "quality", 1, 100, higher_is_better=True, ladder=(5, 15, 30, 50, 70)
    )

    def __init__(self, *, level: int = 6) -> None:
        self._level = level

    @property
    def options(self) -> Mapping[str, object]:
        """The options of this codec."""
        return {"level": self._level}

    @property
    def version(self) -> str:
        """The version of zlib."""
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        step = _step(self.quality_scale.strength(quality))
        levels = (image.to(torch.float32) / step).round().to(torch.int16)
        differences = torch.cat([levels[..., :1], levels.diff(dim=-1)], dim=-1).remainder(256).to(torch.uint8)
        header = _HEADER.pack(_MAGIC, image.shape[1], image.shape[2], step)
        return header + zlib.compress(differences.numpy().tobytes(), self._level)

    def _decode(self, payload: bytes) -> Tensor:
        inflate = zlib.decompressobj()
        try:
            magic, height, width, step = _HEADER.unpack_from(payload)
            data = inflate.decompress(payload[_HEADER.size :], 3 * height * width + 1)
        except (struct.error, zlib.error) as error:
            raise self._rubbish(str(error)) from error
        if magic != _MAGIC or not step or not data or len(data) != 3 * height * width:
            raise self._rubbish(f"magic {magic!r}, step {step}, {len(data)} samples")
        if not inflate.eof or inflate.unused_data:
            raise self._rubbish("a truncated or an overlong stream")
        differences = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(3, height, width)
        levels = differences.to(torch.int64).cumsum(dim=-1).remainder(256)
        return torch.mul(levels, step).clamp(max=255).to(torch.uint8)

    @staticmethod
    def _rubbish(got: str) -> BitstreamError:
        return BitstreamError(
            where="fake decoder",
            expected="a whole payload of FakeCodec",
            got=got,
            remedy="Pass what encode() returned.",
        )


class FakeProxy(ProxyCodec):
    """`FakeCodec` with straight-through rounding, and a rate of ``2 log2(1 + |difference| / step)`` bits per sample.

    ``log_scale`` (of that rate) is its one trainable parameter. Decoded images equal the codec's.
    """

    name = "fake"
    source = "a double"
    codec_name = "fake"

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec)
        self.log_scale: nn.Parameter = nn.Parameter(torch.zeros(()))

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        steps = torch.tensor([_step(self.quality_scale.strength(quality)) for quality in qualities.tolist()])
        steps = steps.to(images)[:, None, None, None]
        decoded = ((to_uint8(images).to(images) / steps).round() * steps).clamp(max=255)
        differences = torch.cat([images[..., :1], images.diff(dim=-1)], dim=-1).abs()
        bits = 2.0 * torch.log2(1.0 + differences / to_float(steps.to(torch.uint8))).flatten(1).sum(dim=1)  # (N,)
        return ProxyOutput(
            images=images + (to_float(decoded.to(torch.uint8)) - images).detach(),
            bits=8.0 * (_HEADER.size + 11) + bits * self.log_scale.exp(),
        )


class FakePreprocessor(Preprocessor):
    """Mixes the image with its 3x3 mean: ``image + gain * strength * (mean - image)``.

    ``gain`` is its one trainable parameter.

    Args:
        gain: where it starts; 0 is the identity, 1 the mean at the strongest compression.
    """

    name = "fake"
    source = "a double"

    def __init__(self, *, gain: float = 0.0) -> None:
        super().__init__()
        self.gain: nn.Parameter = nn.Parameter(torch.tensor(float(gain)))

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        mean = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return images + self.gain * strengths[:, None, None, None] * (mean - images)


class FakeTask(TaskModel):
    """Tells the direction of gratings: oriented filters, their energy, one logit per direction.

    The filters suit `FakeDataset` from the start and are trainable. It offers its pseudo-labels and features, and takes
    images from 1x1 up.

    Args:
        classes: number of directions.
        sharpness: factor on the logits; small values make the answers less sure.
    """

    name = "fake"
    source = "a double"
    target_kind: str = Label.kind

    def __init__(self, *, classes: int = 4, sharpness: float = 40.0) -> None:
        super().__init__()
        self.scorer: LabelScorer = LabelScorer()
        self.sharpness = sharpness
        self.class_names: tuple[str, ...] = tuple(f"direction {index}" for index in range(classes))
        self.filters: nn.Parameter = nn.Parameter(_gratings(classes))  # (2 * classes, 1, K, K)

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        gray = images.mean(dim=1, keepdim=True)
        margin = _TASK_KERNEL_PX // 2
        return [functional.conv2d(functional.pad(gray, (margin,) * 4, mode="replicate"), self.filters)]

    def _logits(self, images: Tensor) -> Tensor:
        cosine, sine = self._features(images)[0].chunk(2, dim=1)
        return self.sharpness * (cosine.square() + sine.square() + 1e-8).sqrt().mean(dim=(2, 3))  # (N, classes)

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        return self._predict_with_losses(images, targets)[1]

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self._logits(images).cpu())

    def _predict_with_losses(self, images: Tensor, targets: Sequence[Target]) -> tuple[Sequence[Tensor], Tensor]:
        logits = self._logits(images)
        soft = torch.zeros_like(logits)
        for row, target in enumerate(targets):
            assert isinstance(target, Label)  # `losses` has checked it
            if target.probabilities is None:
                soft[row, target.index] = 1.0
            else:
                soft[row] = target.probabilities.to(soft)
        return list(logits.cpu()), functional.cross_entropy(logits, soft, reduction="none")

    def _pseudo_labels(self, images: Tensor) -> Sequence[Target]:
        return [Label(index=int(row.argmax()), probabilities=row) for row in self._logits(images).softmax(dim=1).cpu()]


def _gratings(classes: int) -> Tensor:
    """Return quadrature pairs of windowed gratings, (2 * classes, 1, K, K): all cosines, then all sines."""
    offsets = torch.arange(_TASK_KERNEL_PX) - _TASK_KERNEL_PX // 2
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    window = torch.exp(-(rows**2 + columns**2) / (2 * 2.5**2))
    angles = torch.arange(classes) * math.pi / classes
    phase = (
        2
        * math.pi
        / _TASK_PERIOD_PX
        * (torch.cos(angles)[:, None, None] * columns + torch.sin(angles)[:, None, None] * rows)
    )
    waves = torch.cat([phase.cos(), phase.sin()]) * window
    waves = waves - window * (waves.sum(dim=(1, 2), keepdim=True) / window.sum())  # blind to flat areas
    return (waves / waves.abs().sum(dim=(1, 2), keepdim=True))[:, None]


class FakeDataset(TaskDataset):
    """Noisy gratings on a shaded ground; the direction is the class. Same index and seed, same image.

    Args:
        count: number of images.
        size: height and width of every image, or ...
        sizes: ... heights and widths that the images take in turn.
        classes: number of directions.
        seed: draws other images.
        contrast: amplitude of the gratings in [0, 1]; each image has between a tenth and the whole of it.
        noise: standard deviation of the noise in [0, 1].
        labelled: False for images without targets.
        unreadable: indices that raise `DatasetError`.
    """

    name = "fake"
    source = "a double"

    def __init__(
        self,
        *,
        count: int = 24,
        size: tuple[int, int] = (24, 24),
        sizes: Sequence[tuple[int, int]] | None = None,
        classes: int = 4,
        seed: int = 0,
        contrast: float = 0.06,
        noise: float = 0.05,
        labelled: bool = True,
        unreadable: Collection[int] = (),
    ) -> None:
        self.target_kind: str | None = Label.kind if labelled else None
        self.class_names: tuple[str, ...] = tuple(f"direction {index}" for index in range(classes)) if labelled else ()
        self._count, self._classes, self._seed = count, classes, seed
        self._sizes = tuple(sizes) if sizes is not None else (size,)
        self._contrast, self._noise = contrast, noise
        self._unreadable = frozenset(unreadable)

    def __len__(self) -> int:
        return self._count

    def _sample(self, index: int) -> tuple[Tensor, Target | None]:
        if index in self._unreadable:
            raise DatasetError(
                where=f"fake image {index}",
                expected="a whole image",
                got="one that is marked unreadable",
                remedy="Mend the file, or skip unreadable images.",
            )
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + index)
        label = index % self._classes
        height, width = self._sizes[index % len(self._sizes)]
        draw = torch.rand(6, generator=generator)
        angle = label * math.pi / self._classes
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        phase = 2 * math.pi / _TASK_PERIOD_PX * (math.cos(angle) * columns + math.sin(angle) * rows)
        wave = self._contrast * (0.1 + 0.9 * draw[0]) * torch.cos(phase + 2 * math.pi * draw[1])
        ground = 0.3 + 0.4 * draw[2:5, None, None] + 0.2 * (draw[5] - 0.5) * (rows / height + columns / width)
        noise = self._noise * torch.randn(3, height, width, generator=generator)
        return to_uint8(ground + wave + noise), Label(label) if self.target_kind is not None else None
