"""Detection sets in COCO's format: a folder of images and one file of annotations."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from precomp_data._coco_format import CocoImage, read_coco
from precomp_data._findings import Findings, absent_classes
from precomp_data._names import chosen_names
from precomp_data._orientation import LabelOrientation, check_label_orientation, upright_target
from precomp_data.folders import existing_folder
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_sdk import Boxes, DatasetError, DatasetReport, Target, nearest
from precomp_sdk.image_io import ReadSettings, decode_image

__all__ = ["CocoDetection"]

_ANNOTATIONS = ("annotations_{split}.json", "annotations/{split}.json", "annotations/instances_{split}.json")
_IMAGES = ("images/{split}", "{split}")
_YEARS = ("2017", "2014")  # COCO's own folders, such as train2017, with annotations/instances_train2017.json


class CocoDetection(ImageDataset):
    """Images with boxes, annotated in COCO's format.

    Unless paths are given, the annotations of a split are the first there is of ``annotations_<split>.json``,
    ``annotations/<split>.json``, ``annotations/instances_<split>.json`` and COCO's own
    ``annotations/instances_<split>2017.json`` or ``...2014.json``; its images are in the first there is of
    ``images/<split>``, ``<split>``, and, for COCO's own files, ``<split>2017`` or ``<split>2014`` of the same year.
    The archives of cocodataset.org, unpacked side by side, fit as they are.

    Category ids may be any numbers. Labels are 0 .. K-1 in the order of the ids, whatever the order in the file;
    ``class_names`` says which is which. Crowd regions are marked in `Boxes.crowd`. Images without objects stay.
    Boxes that stick out by less than a pixel are clipped.

    Args:
        root: the folder of all.
        split: ``"train"`` or ``"val"``, or another name in the file names above.
        images: the folder of images, below ``root`` or absolute, instead of the names above.
        annotations: the file of annotations, likewise.
        classes: use these categories only, labelled in this order; objects of others are left out, images stay.
        strict: False leaves out what cannot be used instead of raising: images without a file, boxes without an area
            or outside their image, objects of unknown images or categories; boxes that stick out are clipped.
            `report` lists them.
        label_orientation: where an image's EXIF data turns it, boxes lie on the samples as they are ``"stored"`` or on
            the ``"upright"`` image. By default width and height in the annotations tell, and where they do not, the
            image is refused.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: a folder or file is missing, or the annotations are wrong; says where. On reading: the image has
            another size than the annotations say.
    """

    name = "coco-detection"
    source = "the user's images in COCO's format, Lin et al., arXiv 1405.0312"
    target_kind = Boxes.kind

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        images: str | os.PathLike[str] | None = None,
        annotations: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        strict: bool = True,
        label_orientation: LabelOrientation | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        self._lies = check_label_orientation(self.name, label_orientation)
        folder = existing_folder(Path(root))
        path = folder / annotations if annotations is not None else _find_annotations(folder, split)
        self._images = existing_folder(folder / images) if images is not None else _find_images(folder, split, path)
        findings = Findings(strict)
        content = read_coco(path, findings)
        self.class_names = _chosen(content.categories, classes, path)
        self.origin = str(path)
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._labels = {number: labels[name] for number, name in content.categories.items() if name in labels}
        self._entries = tuple(entry for entry in content.images if _has_file(self._images, entry, findings, path))
        if not self._entries:
            raise DatasetError(
                where=str(path),
                expected="images",
                got="none that can be used",
                remedy="Check the folder of images.",
            )
        used = {item.category for entry in self._entries for item in entry.objects}
        absent = [name for number, name in content.categories.items() if name in labels and number not in used]
        self._report = findings.report(len(self._entries), notes=absent_classes(absent))
        #: COCO's id of each image, for files of predictions
        self.image_ids: tuple[int, ...] = tuple(entry.id for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        entry = self._entries[index]
        file = self._images / entry.file
        image = decode_image(file, settings=self._reading)
        objects = [item for item in entry.objects if item.category in self._labels]
        boxes = Boxes(
            boxes=torch.tensor([item.box for item in objects], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([self._labels[item.category] for item in objects], dtype=torch.int64),
            crowd=torch.tensor([item.crowd for item in objects], dtype=torch.bool),
        )
        return image.samples, upright_target(image, boxes, entry.size[::-1], self._lies, str(file))

    def report(self) -> DatasetReport:
        """Return what was left out or clipped, and classes without an object."""
        return self._report

    def key(self, index: int) -> str:
        """Return the image's file name, as the annotations give it."""
        return self._entries[index].file


def _find_annotations(root: Path, split: str) -> Path:
    names = [pattern.format(split=split) for pattern in _ANNOTATIONS]
    names += [f"annotations/instances_{split}{year}.json" for year in _YEARS]
    for name in names:
        if (root / name).is_file():
            return root / name
    found = sorted(
        path.relative_to(root).as_posix() for place in (root, root / "annotations") for path in place.glob("*.json")
    )
    raise DatasetError(
        where=f"{root}, split {split!r}",
        expected=f"one of {', '.join(names)}",
        got=f"{', '.join(found[:8])}" if found else "no JSON file",
        remedy="Rename the file, or give its path by the option annotations.",
    )


def _find_images(root: Path, split: str, annotations: Path) -> Path:
    names = [pattern.format(split=split) for pattern in _IMAGES]
    names += [f"{split}{year}" for year in _YEARS if annotations.stem.endswith(year)]
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(
        where=f"{root}, split {split!r}",
        expected=f"a folder of images: {' or '.join(names)}",
        got="none of them",
        remedy="Rename the folder, or give its path by the option images.",
    )


def _chosen(categories: dict[int, str], classes: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    """Return the class names in the order of their labels."""
    known = tuple(categories.values())
    if classes is None:
        return known
    names = chosen_names("coco-detection", classes)
    for name in names:
        if name not in known:
            raise DatasetError(
                where=f"{path}, categories",
                expected="every category named by the option classes",
                got=f"no {name!r}",
                remedy=nearest(name, known),
            )
    return names


def _has_file(images: Path, entry: CocoImage, findings: Findings, path: Path) -> bool:
    if not (images / entry.file).is_file():
        findings.add(entry.file, f"{path}, image {entry.id}", f"a file {entry.file!r} in {images}", "none", image=True)
        return False
    return True
