"""Sets in shards: tar files whose members lie side by side, as WebDataset writes them."""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from precomp_data._findings import Findings
from precomp_data._mask_survey import survey_masks
from precomp_data._names import chosen_names
from precomp_data._orientation import LabelOrientation, check_label_orientation, upright_target
from precomp_data.folders import existing_folder
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_data.masks import read_mask
from precomp_sdk import Boxes, DatasetError, DatasetReport, Label, Mask, OptionError, Target
from precomp_sdk.image_io import DecodedImage, ReadSettings, decode_image, decode_labels, is_image_name
from precomp_sdk.validation import LFS_POINTER

__all__ = ["WebDatasetShards"]

_KINDS = {Label.kind: ("cls",), Mask.kind: ("mask.png", "seg.png"), Boxes.kind: ("boxes.json", "json")}
_PARTS_OF_MASKS = ("mask", "seg")
_IGNORE = 255
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class _Member:
    """A file within a shard: where its bytes lie."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(slots=True)
class _Entry:
    """The members of one sample, by their ending in lower case."""

    key: str
    members: dict[str, _Member] = field(default_factory=dict)
    image: str = ""


class WebDatasetShards(ImageDataset):
    """Images with or without labels in tar files, as WebDataset has them; nothing is unpacked.

    Members of one sample share their path up to the first dot of the file name: ``0001.jpg`` with ``0001.cls`` (a
    label's number as text), ``0001.mask.png`` or ``0001.seg.png`` (a mask), ``0001.boxes.json`` or ``0001.json``
    (``{"boxes": [[x1, y1, x2, y2], ...], "labels": [...]}`` in pixels). The index of every shard is read when the set
    is opened, the bytes of an image when it is asked for, so that images are shuffled over all shards.

    Args:
        root: the folder of the shards.
        shards: a pattern of their names below it, such as ``"train-*.tar"``; they are sorted.
        target: ``"label"``, ``"mask"``, ``"boxes"``, or None for images without labels.
        classes: the names of labels 0, 1, ...
        ignore_index: the label of masks that counts for nothing; by default 255.
        strict: False leaves out samples without an image or without their label; `report` lists them.
        label_orientation: where an image's EXIF data turns it, its labels lie on the samples as they are ``"stored"``
            or on the ``"upright"`` image. By default a mask's size tells; where nothing does, the image is refused.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: there is no shard, one is damaged or compressed, or a sample lacks a part.

    Source: the format of webdataset, github.com/webdataset/webdataset; read by Python's tarfile.
    """

    name = "webdataset"
    source = "the user's images in tar files, as github.com/webdataset/webdataset has them"
    unsafe_options = MappingProxyType({"shards": "path"})
    target_kind: str | None

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        shards: str = "*.tar",
        target: str | None = Label.kind,
        classes: Sequence[str] | None = None,
        ignore_index: int | None = None,
        strict: bool = True,
        label_orientation: LabelOrientation | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        if target is not None and target not in _KINDS:
            raise OptionError.choice(f"data set {self.name!r}", "target", (*_KINDS, None), target)
        self.target_kind = target
        self.class_names = () if classes is None else chosen_names(self.name, classes)
        self._ignore = _IGNORE if ignore_index is None else ignore_index
        self._lies = check_label_orientation(self.name, label_orientation)
        folder = existing_folder(Path(root))
        self.origin = str(folder / shards)
        paths = sorted(path for path in folder.glob(shards) if path.is_file())
        if not paths:
            raise _wrong(self.origin, "tar files", "none", "Check root and the pattern of shards.")
        findings = Findings(strict)
        self._entries = [entry for path in paths for entry in self._usable(path, folder, findings)]
        if not self._entries:
            raise _wrong(self.origin, "images", "none that can be used", "Look at the names of the members.")
        self._report = findings.report(len(self._entries), notes=self._notes(chosen=ignore_index is not None))

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, index: int) -> str:
        """Return the shard's path below ``root`` and the sample's name in it."""
        return self._entries[index].key

    def report(self) -> DatasetReport:
        """Return what was left out, and why."""
        return self._report

    def _notes(self, *, chosen: bool) -> Sequence[str]:
        if self.target_kind != Mask.kind:
            return ()

        def labels(place: int) -> Tensor:
            entry = self._entries[place]
            part = self._part(entry)
            return decode_labels(entry.members[part].read(), where=f"{entry.key}.{part}").samples

        return survey_masks(
            labels,
            len(self._entries),
            where=self.origin,
            class_names=self.class_names,
            ignore_index=self._ignore,
            chosen=chosen,
        )

    def _usable(self, path: Path, folder: Path, findings: Findings) -> Iterator[_Entry]:
        """Yield the samples of one shard that have all their parts."""
        for entry in _entries(path, path.relative_to(folder).as_posix()):
            where = f"{path}, sample {entry.key}"
            entry.image = next((part for part in entry.members if _is_image(part)), "")
            if not entry.image:
                findings.add(entry.key, where, "an image", f"{', '.join(entry.members)}", image=True)
            elif self.target_kind is not None and not self._part(entry):
                wanted = " or ".join(f".{part}" for part in _KINDS[self.target_kind])
                findings.add(entry.key, where, f"a member that ends in {wanted}", "none", image=True)
            else:
                yield entry

    def _part(self, entry: _Entry) -> str:
        return next((part for part in _KINDS[self.target_kind or ""] if part in entry.members), "")

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        entry = self._entries[index]
        where = f"{entry.key}.{entry.image}"
        image = decode_image(entry.members[entry.image].read(), settings=self._reading, where=where)
        if self.target_kind is None:
            return image.samples, None
        part = self._part(entry)
        data, told = entry.members[part].read(), f"{entry.key}.{part}"
        if self.target_kind == Label.kind:
            return image.samples, Label(index=_number(data, told))
        if self.target_kind == Mask.kind:
            count = len(self.class_names)
            return image.samples, read_mask(
                data, image, classes=count, ignore_index=self._ignore, lies=self._lies, where=told
            )
        return image.samples, _boxes(data, image, self._lies, told)


def _entries(path: Path, name: str) -> Iterator[_Entry]:
    """Yield the samples of a shard; members of one sample lie side by side, as the format wants."""
    current: _Entry | None = None
    try:
        with path.open("rb") as start:
            if start.read(len(LFS_POINTER)) == LFS_POINTER:
                raise tarfile.ReadError("a pointer of git-lfs: the file itself was not downloaded (git lfs pull)")
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                if not member.isfile() or not stem or not suffix:
                    continue
                key = f"{name}/{folder}/{stem}" if folder else f"{name}/{stem}"
                if current is None or key != current.key:
                    if current is not None:
                        yield current
                    current = _Entry(key)
                current.members[suffix.lower()] = _Member(path, member.offset_data, member.size)
            if _Member(path, archive.offset, _BLOCK).read() != bytes(_BLOCK):
                raise tarfile.ReadError("it ends without the zeros that end a tar file")
    except (tarfile.TarError, OSError, EOFError) as error:
        remedy = "Unpack a compressed one with gzip -d; copy a damaged one again."
        raise _wrong(str(path), "a whole tar file that is not compressed", str(error), remedy) from error
    if current is not None:
        yield current


def _is_image(part: str) -> bool:
    return part.partition(".")[0] not in _PARTS_OF_MASKS and is_image_name(f"x.{part}")


def _number(data: bytes, where: str) -> int:
    try:
        return int(data.decode("ascii").strip())
    except ValueError as error:
        raise _wrong(where, "a label's number as text", repr(data[:40]), "Write 0, 1, 2 ... into it.") from error


def _boxes(data: bytes, image: DecodedImage, lies: LabelOrientation | None, where: str) -> Target:
    try:
        content: Any = json.loads(data)
        boxes = torch.tensor(content["boxes"], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor(content["labels"], dtype=torch.int64).reshape(-1)
        if len(boxes) != len(labels):
            raise ValueError(f"{len(boxes)} boxes and {len(labels)} labels")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        expected = '{"boxes": [[x1, y1, x2, y2], ...], "labels": [...]}'
        raise _wrong(where, expected, f"{type(error).__name__}: {error}", "Repair the annotation.") from error
    height, width = int(image.samples.shape[1]), int(image.samples.shape[2])
    size = image.stored_size if lies == "stored" else (height, width)
    if lies is None and image.orientation != 1:  # a list of boxes has no size that could tell
        raise _wrong(
            where,
            "boxes of which it is known whether they lie on the stored or on the upright image",
            f"an EXIF orientation of {image.orientation} of its image",
            'Set label_orientation = "stored" or "upright", or write the image upright.',
        )
    return upright_target(image, Boxes(boxes=boxes, labels=labels), size, lies, where)


def _wrong(where: str, expected: str, got: str, remedy: str) -> DatasetError:
    return DatasetError(where=where, expected=expected, got=got, remedy=remedy)
