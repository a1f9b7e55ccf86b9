"""Results of single images, kept by what they depend on: within a run, and in a folder from run to run."""

import hashlib
import io
import platform
import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from precomp_sdk.atomic_io import write_whole
from precomp_sdk.channel import Channel
from precomp_sdk.evaluation._fingerprint import fingerprint
from precomp_sdk.evaluation.statistics import ImageRow
from precomp_sdk.versions import environment_versions

__all__ = ["KnownRows", "RowCache"]

_FORMAT = "precomp-rows-1"
_NOT_ITS_OWN = ("transcoder", "codec", "proxy", "label")  # of a channel: the codec is told, and the others say nothing
_SIDES = 8  # dimensions of a statistics array, at most


class RowCache:
    """Rows by section and image. A section is a way to send at one quality and one judge, see `KnownRows`.

    In a folder, a section is one file, written whole; what cannot be read is measured again.

    Args:
        folder: where rows are kept from run to run; None: in memory alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._sections: dict[str, dict[str, ImageRow]] = {}
        self._changed: set[str] = set()

    def row(self, sections: Mapping[str, str], image: str) -> ImageRow | None:
        """Return an image's row with all judges, or None where one of them is not known.

        Args:
            sections: by judge.
            image: digest of the image with its target.
        """
        found = {judge: self._section(section).get(image) for judge, section in sections.items()}
        rows = {judge: row for judge, row in found.items() if row is not None}
        if len(rows) < len(sections):
            return None
        return ImageRow(
            bits=next(iter(rows.values())).bits,
            losses={judge: row.losses[""] for judge, row in rows.items()},
            statistics={judge: row.statistics[""] for judge, row in rows.items()},
        )

    def add(self, sections: Mapping[str, str], image: str, row: ImageRow) -> None:
        """Keep an image's row, judge by judge."""
        for judge, section in sections.items():
            one = ImageRow(bits=row.bits, losses={"": row.losses[judge]}, statistics={"": row.statistics[judge]})
            self._section(section)[image] = one
            self._changed.add(section)

    def save(self) -> None:
        """Write every section that has new rows.

        Raises:
            OSError: the folder cannot be written to.
        """
        for section in sorted(self._changed) if self.folder is not None else ():
            rows = {**_read(self._path(section)), **self._sections[section]}  # another run may have added some
            write_whole(self._path(section), _to_bytes(rows))
        self._changed.clear()

    def _section(self, section: str) -> dict[str, ImageRow]:
        if section not in self._sections:
            self._sections[section] = {} if self.folder is None else _read(self._path(section))
        return self._sections[section]

    def _path(self, section: str) -> Path:
        assert self.folder is not None
        return self.folder / section[:2] / f"{section}.npz"


class KnownRows:
    """The rows of one way to send, by quality and image.

    Args:
        cache: where they are kept.
        channel: the way.
        judges: what stands for each judge, by name.
        qualities: the ladder.
        coded: the codec works.

    Raises:
        UnknownContentError: the content of the channel or the codec cannot be told.
    """

    def __init__(
        self,
        cache: RowCache,
        channel: Channel,
        judges: Mapping[str, str],
        qualities: Sequence[float],
        *,
        coded: bool = True,
    ) -> None:
        codec = channel.codec
        state = {name: value for name, value in vars(channel).items() if name not in _NOT_ITS_OWN}
        way = fingerprint(type(channel), state, codec, codec.name, codec.version, codec.options, *_environment())
        how = () if coded else ("uncoded",)
        self._cache = cache
        self._sections = {
            quality: {judge: _digest(way, repr(float(quality)), of, *how) for judge, of in judges.items()}
            for quality in qualities
        }

    def row(self, quality: float, image: str) -> ImageRow | None:
        """Return an image's row at a quality, or None where it is not known."""
        return self._cache.row(self._sections[quality], image)

    def add(self, quality: float, image: str, row: ImageRow) -> None:
        """Keep an image's row at a quality."""
        self._cache.add(self._sections[quality], image, row)


def _environment() -> tuple[object, ...]:
    """Return what all results depend on: this package's code, and the versions of what does the arithmetic."""
    return (sys.version, platform.machine(), *environment_versions().items(), Channel)


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join((_FORMAT, *parts)).encode(), digest_size=16).hexdigest()


def _to_bytes(rows: Mapping[str, ImageRow]) -> bytes:
    statistics = [np.asarray(row.statistics[""], dtype=np.float64) for row in rows.values()]
    shapes = np.full((len(rows), _SIDES), -1, dtype=np.int64)
    for place, array in enumerate(statistics):
        shapes[place, : array.ndim] = array.shape
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=np.array(list(rows)),
        bits=np.array([row.bits for row in rows.values()], dtype=np.float64),
        losses=np.array([row.losses[""] for row in rows.values()], dtype=np.float64),
        shapes=shapes,
        values=np.concatenate([array.reshape(-1) for array in statistics]) if statistics else np.zeros(0),
    )
    return buffer.getvalue()


def _read(path: Path) -> dict[str, ImageRow]:
    """Return the rows of a file; none where there is no such file, or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
            parts = {name: found[name] for name in ("images", "bits", "losses", "shapes", "values")}
        return dict(zip(parts["images"].tolist(), _rows(parts), strict=True))
    except (OSError, EOFError, KeyError, ValueError, struct.error, zipfile.BadZipFile):
        return {}


def _rows(parts: Mapping[str, NDArray[np.float64]]) -> Sequence[ImageRow]:
    rows, place = [], 0
    for bits, loss, sides in zip(parts["bits"], parts["losses"], parts["shapes"], strict=True):
        shape = tuple(int(side) for side in sides if side >= 0)
        size = int(np.prod(shape))
        values = parts["values"][place : place + size].reshape(shape)
        rows.append(ImageRow(bits=float(bits), losses={"": float(loss)}, statistics={"": values}))
        place += size
    return rows
