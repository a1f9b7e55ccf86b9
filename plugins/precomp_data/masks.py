"""Reads masks, images whose samples are classes, and a set of images beside their masks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from precomp_data._findings import Findings, read_json
from precomp_data._names import chosen_names
from precomp_data.folders import existing_folder, images_below
from precomp_data.geometry import Geometry, ImageDataset
from precomp_sdk import DatasetError, Mask, OptionError, SkippedSample, Target
from precomp_sdk.image_io import MAX_PIXELS, ReadSettings, decode_labels, read_image

__all__ = ["MaskFolder", "check_labels", "read_mask"]

_CLASSES_FILE = "classes.json"
_IGNORE = 255
_MOST_LISTED = 8


class MaskFolder(ImageDataset):
    """Images in ``root/images/<split>/`` and a mask for each in ``root/masks/<split>/``, of the same name.

    Names may differ in their extensions. A mask's samples are classes: 8 or 16 bits of gray, or palette indices
    (the palette's colours do not matter). ``root/classes.json``, where there is one, names the classes and the label
    that counts for nothing: ``{"classes": ["sky", "road"], "ignore_index": 255}``.

    Args:
        root: the folder of all.
        split: ``"train"`` or ``"val"``, or any other pair of folders; None takes ``root/images`` and ``root/masks``.
        images: another folder of images, below ``root`` or absolute; ``split`` does not count then.
        masks: another folder of masks, likewise; give both or neither.
        classes: the names of labels 0, 1, ...; by default those of ``classes.json``, or none. Without names no label
            can be told from a wrong one.
        ignore_index: this label counts for nothing; by default that of ``classes.json``, or 255.
        strict: False leaves out images without a mask and masks without an image, and lists them in ``mended``.
        resize: see `Geometry`; so are ``crop``, ``augment``, ``zoom`` and ``seed``.
        crop: see `Geometry`.
        augment: see `Geometry`.
        zoom: see `Geometry`.
        seed: see `Geometry`.
        max_pixels: larger images raise an error, see `read_image`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: a folder is missing or empty, an image or a mask has no counterpart, or ``classes.json`` is
            damaged. On reading: a mask has another size than its image, or an unknown label.
    """

    name = "mask-folder"
    source = "the user's images, a mask for each"
    target_kind = Mask.kind

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str | None = "train",
        images: str | os.PathLike[str] | None = None,
        masks: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        ignore_index: int | None = None,
        strict: bool = True,
        resize: int | None = None,
        crop: int | None = None,
        augment: bool = False,
        zoom: float = 1.0,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(Geometry(resize=resize, crop=crop, augment=augment, zoom=zoom, seed=seed))
        self._reading = ReadSettings(max_pixels=max_pixels)
        folder = existing_folder(Path(root))
        if (images is None) != (masks is None):
            raise OptionError(
                where=f"data set {self.name!r}, images and masks",
                expected="both folders, or neither",
                got=f"{images!r} and {masks!r}",
                remedy="Give the missing one.",
            )
        self._images = existing_folder(folder / (images or Path("images", split or "")))
        self._masks = existing_folder(folder / (masks or Path("masks", split or "")))
        named, ignored = _read_classes(folder / _CLASSES_FILE)
        self.class_names = named if classes is None else chosen_names(self.name, classes)
        self._ignore = ignored if ignore_index is None else _label(self.name, ignore_index)
        findings = Findings(strict)
        self._pairs = _pair(self._images, self._masks, findings)
        self.mended: tuple[SkippedSample, ...] = findings.mended  #: what ``strict=False`` left out

    def __len__(self) -> int:
        return len(self._pairs)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        name, mask = self._pairs[index]
        image = read_image(self._images / name, settings=self._reading)
        labels = read_mask(self._masks / mask, image, classes=len(self.class_names), ignore_index=self._ignore)
        return image, Mask(labels=labels, ignore_index=self._ignore)

    def key(self, index: int) -> str:
        """Return the image's path below its folder, with forward slashes."""
        return self._pairs[index][0]


def read_mask(
    mask: str | os.PathLike[str] | bytes,
    image: Tensor,
    *,
    classes: int = 0,
    ignore_index: int = _IGNORE,
    where: str | None = None,
) -> Tensor:
    """Read the mask of an image.

    Shapes and units:
        image: (3, H, W), the image. Returns (H, W) int64 labels.

    Args:
        mask: a path, or the bytes of a file.
        image: the image it belongs to, as read.
        classes: labels from here on are unknown; 0 accepts any.
        ignore_index: always known.
        where: names the mask in messages; the path by default.

    Raises:
        ImageError: it cannot be read, or is an image of colours.
        DatasetError: it has another size, or an unknown label.
    """
    where = where or (f"mask of {len(mask)} bytes" if isinstance(mask, bytes) else str(mask))
    size = tuple(image.shape[1:])
    settings = ReadSettings(max_pixels=max(MAX_PIXELS, size[0] * size[1]))
    labels = decode_labels(mask, settings=settings, where=where).samples
    return check_labels(labels, size, classes=classes, ignore_index=ignore_index, where=where)


def check_labels(labels: Tensor, size: Sequence[int], *, classes: int, ignore_index: int, where: str) -> Tensor:
    """Return a mask's labels if they fit the image and the classes; see `read_mask`.

    Raises:
        DatasetError: they do not.
    """
    if tuple(labels.shape) != tuple(size):
        raise DatasetError(
            where=where,
            expected=f"a mask of its image's size, {size[1]} x {size[0]}",
            got=f"{labels.shape[1]} x {labels.shape[0]}",
            remedy="Make both of one size; an EXIF orientation turns an image and not its mask.",
        )
    wrong = (labels < 0) | (labels >= classes) if classes else labels < 0
    unknown = np.unique(labels[wrong & (labels != ignore_index)].numpy()).tolist()
    if unknown:
        last = f"to {classes - 1}" if classes else "on"
        more = " and more" if len(unknown) > _MOST_LISTED else ""
        raise DatasetError(
            where=where,
            expected=f"labels from 0 {last}, or {ignore_index} for pixels that count for nothing",
            got=f"{unknown[:_MOST_LISTED]}{more}",
            remedy="Name every class, set ignore_index, or repair the mask.",
        )
    return labels


def _pair(images: Path, masks: Path, findings: Findings) -> list[tuple[str, str]]:
    """Return images with their masks, in the order of the images' names."""
    named, found = (_by_stem(folder) for folder in (images, masks))
    for stem, name in named.items():
        if stem not in found:
            findings.add(name, str(images / name), f"a mask of that name in {masks}", "none")
    for stem, name in found.items():
        if stem not in named:
            findings.add(name, str(masks / name), f"an image of that name in {images}", "none")
    return [(name, found[stem]) for stem, name in named.items() if stem in found]


def _by_stem(folder: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in images_below(folder):
        stem = name.rpartition(".")[0]
        if stem in files:
            raise DatasetError(
                where=str(folder),
                expected="one image of each name, whatever its extension",
                got=f"{files[stem]!r} and {name!r}",
                remedy="Rename or remove one.",
            )
        files[stem] = name
    if not files:
        raise DatasetError(where=str(folder), expected="images", got="none", remedy="Check the folder.")
    return files


def _read_classes(path: Path) -> tuple[tuple[str, ...], int]:
    """Return the class names and the ignored label of a classes.json, or none and 255 where there is no such file."""
    if not path.is_file():
        return (), _IGNORE
    content = read_json(path)
    if not isinstance(content, Mapping) or not set(content) <= {"classes", "ignore_index"}:
        raise _damaged(path, f"{str(content)[:60]}")
    names, ignored = content.get("classes", []), content.get("ignore_index", _IGNORE)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        raise _damaged(path, f"classes {str(names)[:60]}")
    if isinstance(ignored, bool) or not isinstance(ignored, int) or ignored < 0:
        raise _damaged(path, f"ignore_index {ignored!r}")
    return tuple(names), ignored


def _damaged(path: Path, got: str) -> DatasetError:
    return DatasetError(
        where=str(path),
        expected='{"classes": [names, each once], "ignore_index": a label}',
        got=got,
        remedy="Repair the file, or give the options classes and ignore_index and remove it.",
    )


def _label(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise OptionError(
            where=f"data set {name!r}, ignore_index", expected="a label, 0 or more", got=repr(value), remedy="Take 255."
        )
    return value
