"""A wavelet codec in 100 lines: luma and chroma, Haar transform, uniform quantizer, zlib."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk import BitstreamError, Codec, OptionError, QualityScale

__all__ = ["HaarCodec"]

_HEADER = struct.Struct(">4sHHB")  # magic, height, width, level
_MAGIC = b"HAAR"
_SCALES = 3  # of the transform
_TILE = 2**_SCALES
_MAX_SIDE = 8192  # of what is decoded: a header may claim anything
_CHROMA_STEP = 2.0  # chroma is quantized more coarsely
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # BT.601

Plane = NDArray[np.float64]


class HaarCodec(Codec):
    """Quantizes a three-scale orthonormal Haar transform with one step, 2 to the power of ``level / 3``.

    Args:
        effort: of zlib, 0 to 9.
    """

    name = "haar"
    source = "Haar, Math. Annalen 69 (1910); RFC 1950; JFIF's colour transform"
    quality_scale = QualityScale("level", 0, 21, higher_is_better=False, ladder=(9, 11, 13, 15, 17, 19))

    def __init__(self, *, effort: int = 9) -> None:
        if effort not in range(10):
            raise OptionError(where="'haar', effort", expected="0 to 9", got=repr(effort), remedy="9 packs best.")
        self._effort = effort

    @property
    def options(self) -> Mapping[str, object]:
        """The options this codec was constructed with."""
        return {"effort": self._effort}

    @property
    def version(self) -> str:
        """The version of zlib, which decides about the bytes."""
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        height, width = image.shape[-2:]
        samples = np.moveaxis(image.numpy(), 0, -1).astype(np.float64) - 128.0
        planes = np.moveaxis(samples @ _TO_YCC.T, -1, 0)  # (3, H, W)
        planes = np.pad(planes, ((0, 0), (0, -height % _TILE), (0, -width % _TILE)), mode="edge")
        levels = np.rint(_forward(planes) / _steps(quality)).astype(">i2")  # below 32768: a gain of 8 on 8 bits
        packed = np.frombuffer(levels.tobytes(), np.uint8).reshape(-1, 2).T.tobytes()  # high bytes, then low bytes
        return _HEADER.pack(_MAGIC, height, width, int(quality)) + zlib.compress(packed, self._effort)

    def _decode(self, payload: bytes) -> Tensor:
        try:
            magic, height, width, quality = _HEADER.unpack_from(payload)
        except struct.error as error:
            raise _damaged(str(error)) from error
        sides_fit = 1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE
        if magic != _MAGIC or not sides_fit or quality > self.quality_scale.maximum:
            raise _damaged(f"magic {magic!r}, {height} x {width}, level {quality}")
        shape = (3, height + -height % _TILE, width + -width % _TILE)
        packed = np.frombuffer(_inflated(payload[_HEADER.size :], 2 * shape[0] * shape[1] * shape[2]), np.uint8)
        levels = np.frombuffer(packed.reshape(2, -1).T.tobytes(), ">i2").reshape(shape)
        planes = _backward(levels.astype(np.float64) * _steps(quality))[:, :height, :width]
        samples = np.moveaxis(planes, 0, -1) @ np.linalg.inv(_TO_YCC).T + 128.0
        return torch.from_numpy(np.moveaxis(np.rint(samples.clip(0.0, 255.0)).astype(np.uint8), -1, 0).copy())


def _steps(level: float) -> Plane:
    return 2.0 ** (level / 3.0) * np.array([1.0, _CHROMA_STEP, _CHROMA_STEP])[:, None, None]


def _forward(planes: Plane) -> Plane:
    """Transform (3, H, W) in place of itself: averages in the upper left quarter, and again in that."""
    result = planes.copy()
    for scale in range(_SCALES):
        corner = result[:, : planes.shape[1] >> scale, : planes.shape[2] >> scale]
        for axis in (1, 2):
            pairs = np.moveaxis(corner, axis, 0).copy()
            even, odd = pairs[0::2], pairs[1::2]
            corner[...] = np.moveaxis(np.concatenate([even + odd, even - odd]) / np.sqrt(2.0), 0, axis)
    return result


def _backward(coefficients: Plane) -> Plane:
    """Undo `_forward`."""
    result = coefficients.copy()
    for scale in reversed(range(_SCALES)):
        corner = result[:, : coefficients.shape[1] >> scale, : coefficients.shape[2] >> scale]
        for axis in (2, 1):
            halves = np.moveaxis(corner, axis, 0).copy()
            low, high = np.split(halves, 2)
            halves[0::2], halves[1::2] = (low + high) / np.sqrt(2.0), (low - high) / np.sqrt(2.0)
            corner[...] = np.moveaxis(halves, 0, axis)
    return result


def _inflated(data: bytes, size: int) -> bytes:
    """Unpack exactly ``size`` bytes; more are not even unpacked."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if len(unpacked) != size or not unpacker.eof or unpacker.unused_data:
        raise _damaged(f"{len(unpacked)} of {size} bytes, {'whole' if unpacker.eof else 'cut'}")
    return unpacked


def _damaged(got: str) -> BitstreamError:
    return BitstreamError(
        where="haar decoder", expected="a whole payload of the haar codec", got=got, remedy="Send it again."
    )
