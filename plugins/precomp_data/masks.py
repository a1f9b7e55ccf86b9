"""Reads masks, images whose samples are classes, and a set of images beside their masks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from precomp_data._findings import Findings, read_json
from precomp_data._mask_survey import survey_masks
from precomp_data._names import chosen_names
from precomp_data._orientation import LabelOrientation, check_label_orientation, upright_target
from precomp_data._walk import find_images
from precomp_data.folders import existing_folder
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_sdk import DatasetError, DatasetReport, Mask, OptionError, SkippedSample, Target
from precomp_sdk.image_io import MAX_PIXELS, DecodedImage, ReadSettings, decode_image, decode_labels

__all__ = ["MaskFolder", "fitted_mask", "read_mask"]

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
        strict: False leaves out images without a mask and masks without an image; `report` lists them.
        label_orientation: where an image's EXIF data turns it, its mask lies on the samples as they are ``"stored"`` or
            on the ``"upright"`` image. By default the sizes tell, and where they do not, the image is refused. A mask
            with an orientation of its own is upright.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

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
        label_orientation: LabelOrientation | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
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
        self._lies = check_label_orientation(self.name, label_orientation)
        self.class_names = named if classes is None else chosen_names(self.name, classes)
        chosen = ignored if ignore_index is None else _label(self.name, ignore_index)
        self._ignore = _IGNORE if chosen is None else chosen
        self.origin = str(folder / _CLASSES_FILE) if classes is None and named else str(folder)
        findings = Findings(strict)
        self._pairs, left_out = _pair(self._images, self._masks, findings)
        notes = survey_masks(
            lambda place: decode_labels(self._masks / self._pairs[place][1]).samples,
            len(self._pairs),
            where=str(self._masks),
            class_names=self.class_names,
            ignore_index=self._ignore,
            chosen=chosen is not None,
        )
        self._report = findings.report(len(self._pairs), left_out, notes)

    def __len__(self) -> int:
        return len(self._pairs)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        name, mask = self._pairs[index]
        image = decode_image(self._images / name, settings=self._reading)
        return image.samples, read_mask(
            self._masks / mask, image, classes=len(self.class_names), ignore_index=self._ignore, lies=self._lies
        )

    def report(self) -> DatasetReport:
        """Return what was left out, and what a look at the masks found."""
        return self._report

    def key(self, index: int) -> str:
        """Return the image's path below its folder, with forward slashes."""
        return self._pairs[index][0]


def read_mask(
    mask: str | os.PathLike[str] | bytes,
    image: DecodedImage,
    *,
    classes: int = 0,
    ignore_index: int = _IGNORE,
    lies: LabelOrientation | None = None,
    where: str | None = None,
) -> Mask:
    """Read the mask of an image, upright as the image is.

    Args:
        mask: a path, or the bytes of a file.
        image: the image it belongs to, as `decode_image` gives it.
        classes: labels from here on are unknown; 0 accepts any.
        ignore_index: always known.
        lies: on what the mask lies where the image has an orientation and the mask has none; see `MaskFolder`.
        where: names the mask in messages; the path by default.

    Raises:
        ImageError: it cannot be read, has colours, or a format that is lossy.
        DatasetError: it has another size, an unknown label, or lies on it is not known what.
    """
    where = where or (f"mask of {len(mask)} bytes" if isinstance(mask, bytes) else str(mask))
    height, width = image.stored_size
    settings = ReadSettings(max_pixels=max(MAX_PIXELS, height * width))
    found = decode_labels(mask, settings=settings, where=where)
    return fitted_mask(found, image, classes=classes, ignore_index=ignore_index, lies=lies, where=where)


def fitted_mask(
    found: DecodedImage,
    image: DecodedImage,
    *,
    classes: int,
    ignore_index: int,
    lies: LabelOrientation | None = None,
    where: str,
) -> Mask:
    """Return decoded labels as the mask of an image if they fit it and the classes; see `read_mask`.

    Raises:
        DatasetError: they do not.
    """
    labels = found.samples
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
    mask = Mask(labels=labels, ignore_index=ignore_index)
    size = int(labels.shape[0]), int(labels.shape[1])
    fitted = upright_target(image, mask, size, "upright" if found.orientation != 1 else lies, where)
    assert isinstance(fitted, Mask)
    return fitted


def _pair(images: Path, masks: Path, findings: Findings) -> tuple[list[tuple[str, str]], list[SkippedSample]]:
    """Return images with their masks, in the order of the images' names, and what is no image that can be read."""
    found_images, found_masks = find_images(images), find_images(masks)
    named, found = _by_stem(images, found_images.files), _by_stem(masks, found_masks.files)
    for stem, name in named.items():
        if stem not in found:
            findings.add(name, str(images / name), f"a mask of that name in {masks}", "none", image=True)
    for stem, name in found.items():
        if stem not in named:
            findings.add(name, str(masks / name), f"an image of that name in {images}", "none")
    return [(name, found[stem]) for stem, name in named.items() if stem in found], list(found_images.left_out)


def _by_stem(folder: Path, names: Sequence[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in names:
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


def _read_classes(path: Path) -> tuple[tuple[str, ...], int | None]:
    """Return the class names and the ignored label of a classes.json, as far as there is one that says them."""
    if not path.is_file():
        return (), None
    content = read_json(path)
    if not isinstance(content, Mapping) or not set(content) <= {"classes", "ignore_index"}:
        raise _damaged(path, f"{str(content)[:60]}")
    names, ignored = content.get("classes", []), content.get("ignore_index")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        raise _damaged(path, f"classes {str(names)[:60]}")
    if ignored is not None and (isinstance(ignored, bool) or not isinstance(ignored, int) or ignored < 0):
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
