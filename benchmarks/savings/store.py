"""A store of measurements: no image is encoded twice at one quality, and none judged twice by one judge.

A row is known by the bytes of the image that was sent, the codec with its options and version, and the quality; a
judge's row also by the clean image, whose own answer is the truth. So two methods that send the same image share it,
and a stopped run goes on where it was.
"""

import hashlib
import io
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from precomp_sdk import Codec, Target, TaskModel

__all__ = ["Store", "Table"]

Array = NDArray[np.float64]
Receive = Callable[[Tensor, tuple[int, int]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One way to send images, measured image by image and quality by quality.

    Shapes and units:
        qualities: Q, on the codec's scale.
        bits: (N, Q), headers counted. pixels: (N,) of the sources.
        mse: (N, Q) mean squared difference of received and clean samples in [0, 1].
        losses: by judge, (N, Q) divergence from its own clean answer.
        evidence: by judge, N rows of Q arrays of its scorer, against its own clean answer.
        labelled: by judge, the same against the data set's labels; empty where there are none.
    """

    qualities: tuple[float, ...]
    bits: Array
    pixels: Array
    mse: Array
    losses: dict[str, Array]
    evidence: dict[str, list[list[Array]]]
    labelled: dict[str, list[list[Array]]]


class Store:
    """An SQLite file of measurements."""

    def __init__(self, file: Path, judges: Mapping[str, TaskModel]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.judges = dict(judges)
        self.encodes = self.judgements = 0
        self._base = sqlite3.connect(file, timeout=60)
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS coded (sent TEXT, codec TEXT, quality REAL, clean TEXT, bits INTEGER, mse REAL,"
            " PRIMARY KEY (sent, codec, quality, clean)) WITHOUT ROWID"
        )
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS judged (sent TEXT, codec TEXT, quality REAL, clean TEXT, judge TEXT, loss REAL,"
            " own BLOB, labelled BLOB, PRIMARY KEY (sent, codec, quality, clean, judge)) WITHOUT ROWID"
        )

    def measure(
        self,
        codec: Codec,
        qualities: Sequence[float],
        clean: Sequence[Tensor],
        sent: Sequence[Tensor] | Sequence[Sequence[Tensor]],
        *,
        labels: Mapping[str, Sequence[Target | None]] | None = None,
        note: str = "",
    ) -> Table:
        """Measure images; what is smaller than its source is upscaled by the receiver, bicubic.

        Args:
            codec: the codec.
            qualities: Q qualities.
            clean: N sources, (3, H, W) uint8.
            sent: what is encoded: one image a source, or Q images a source, one per quality.
            labels: the data set's targets by judge.
            note: printed with the progress.
        """
        key = json.dumps([codec.name, dict(codec.options), codec.version], default=str)
        count, width = len(clean), len(qualities)
        bits, mse = np.zeros((count, width)), np.zeros((count, width))
        losses = {name: np.zeros((count, width)) for name in self.judges}
        own: dict[str, list[list[Array]]] = {name: [] for name in self.judges}
        labelled: dict[str, list[list[Array]]] = {name: [] for name in self.judges}
        began = time.time()
        for row, source in enumerate(clean):
            images = sent[row]
            versions = [images] * width if isinstance(images, Tensor) else list(images)
            targets = {name: items[row] for name, items in (labels or {}).items()}
            found = self._image(codec, key, qualities, source, versions, targets)
            bits[row], mse[row] = found[0], found[1]
            for name in self.judges:
                losses[name][row] = found[2][name]
                own[name].append(found[3][name])
                if found[4][name]:
                    labelled[name].append(found[4][name])
            if row % 32 == 31:
                print(f"{note} {codec.name} {row + 1}/{count} {time.time() - began:.0f} s", flush=True)
        pixels = np.array([image.shape[1] * image.shape[2] for image in clean], dtype=np.float64)
        whole = {name: rows for name, rows in labelled.items() if len(rows) == count}
        return Table(tuple(qualities), bits, pixels, mse, losses, own, whole)

    @torch.no_grad()
    def _image(
        self,
        codec: Codec,
        key: str,
        qualities: Sequence[float],
        source: Tensor,
        versions: Sequence[Tensor],
        labels: Mapping[str, Target | None],
    ) -> tuple[list[float], list[float], dict[str, list[float]], dict[str, list[Array]], dict[str, list[Array]]]:
        clean = _sha(source)
        known: dict[int, str] = {}
        shas = []
        for image in versions:
            if id(image) not in known:
                known[id(image)] = _sha(image)
            shas.append(known[id(image)])
        bits: list[float] = []
        mses: list[float] = []
        received: dict[int, Tensor] = {}
        for place, (quality, image, sha) in enumerate(zip(qualities, versions, shas, strict=True)):
            row = self._base.execute(
                "SELECT bits, mse FROM coded WHERE sent=? AND codec=? AND quality=? AND clean=?",
                (sha, key, quality, clean),
            ).fetchone()
            if row is None:
                payload = codec.encode(image, quality)
                self.encodes += 1
                received[place] = _received(codec, payload, source)
                difference = received[place].float() / 255 - source.float() / 255
                row = (8 * len(payload), float(difference.square().mean()))
                self._base.execute("INSERT INTO coded VALUES (?,?,?,?,?,?)", (sha, key, quality, clean, *row))
            bits.append(float(row[0]))
            mses.append(float(row[1]))
        losses: dict[str, list[float]] = {}
        own: dict[str, list[Array]] = {}
        labelled: dict[str, list[Array]] = {}
        for name, judge in self.judges.items():
            rows = [
                self._base.execute(
                    "SELECT loss, own, labelled FROM judged WHERE sent=? AND codec=? AND quality=? AND clean=? "
                    "AND judge=?",
                    (sha, key, quality, clean, name),
                ).fetchone()
                for quality, sha in zip(qualities, shas, strict=True)
            ]
            missing = [place for place, row in enumerate(rows) if row is None]
            if missing:
                for place in missing:
                    if place not in received:
                        received[place] = _received(codec, codec.encode(versions[place], qualities[place]), source)
                # past the public methods: a segmenter here answers on its own grid, coarser than the image
                truth = judge._pseudo_labels(source[None].float() / 255)[0]
                batch = torch.stack([received[place] for place in missing]).float() / 255
                answers, values = judge._predict_with_losses(batch, [truth] * len(missing))
                self.judgements += len(missing)
                label = labels.get(name)
                for place, answer, value in zip(missing, answers, values.tolist(), strict=True):
                    mine = judge.scorer.measure(answer, truth)
                    theirs = None if label is None else judge.scorer.measure(answer, label)
                    rows[place] = (value, _pack(mine), None if theirs is None else _pack(theirs))
                    self._base.execute(
                        "INSERT INTO judged VALUES (?,?,?,?,?,?,?,?)",
                        (shas[place], key, qualities[place], clean, name, *rows[place]),
                    )
            losses[name] = [float(row[0]) for row in rows]
            own[name] = [_unpack(row[1]) for row in rows]
            labelled[name] = [_unpack(row[2]) for row in rows if row[2] is not None]
        self._base.commit()
        return bits, mses, losses, own, labelled


def _received(codec: Codec, payload: bytes, source: Tensor) -> Tensor:
    decoded = codec.decode(payload)
    if decoded.shape == source.shape:
        return decoded
    size = (source.shape[1], source.shape[2])
    larger = functional.interpolate(decoded[None].float(), size, mode="bicubic", align_corners=False)
    return larger[0].round().clamp(0, 255).to(torch.uint8)


def _sha(image: Tensor) -> str:
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(image.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _pack(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, dtype=np.float64), allow_pickle=False)
    return buffer.getvalue()


def _unpack(blob: bytes) -> Array:
    return np.load(io.BytesIO(blob), allow_pickle=False)  # type: ignore[no-any-return]
