"""Sets in the folders of PASCAL VOC: objects in boxes, and segmentation by masks."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from precomp_data._findings import Findings, absent_classes, read_text
from precomp_data._mask_survey import survey_masks
from precomp_data._names import chosen_names
from precomp_data._orientation import LabelOrientation, check_label_orientation, upright_target
from precomp_data._torchvision import open_published
from precomp_data._voc_format import VocObject, read_voc
from precomp_data.folders import existing_folder
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_data.masks import read_mask
from precomp_sdk import Boxes, DatasetError, DatasetReport, Mask, OptionError, Target
from precomp_sdk.image_io import DecodedImage, ReadSettings, decode_image, decode_labels, is_image_name

__all__ = ["VOC_CLASSES", "VocDetection", "VocFolder", "VocSegmentation"]

VOC_CLASSES: tuple[str, ...] = (  #: the classes of PASCAL VOC, in the order of their labels
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_IMAGES = "JPEGImages"
_YEARS = ("2007", "2008", "2009", "2010", "2011", "2012")
_INSIDE = ("", "VOCdevkit/VOC{year}", "TrainVal/VOCdevkit/VOC{year}", "VOC{year}")  # the second last is 2011's archive
_IGNORE = 255


class VocFolder(ImageDataset):
    """Images in ``JPEGImages/``, listed in ``ImageSets/.../<split>.txt``, in the folders of PASCAL VOC.

    Args:
        root: the folder that holds ``JPEGImages``, or ``VOCdevkit`` as the archives unpack it.
        split: a list in ``ImageSets``, such as ``"train"``, ``"val"``, ``"trainval"`` or, for 2007, ``"test"``.
        year: which of the sets in ``VOCdevkit``, and which one to download: ``"2007"`` to ``"2012"``.
        download: let torchvision fetch the set into ``root`` unless it is there.
        classes: the names of all classes, in the order of their labels; default: VOC's own.
        strict: False leaves out what cannot be used instead of raising; `report` lists it.
        label_orientation: where an image's EXIF data turns it, its labels lie on the samples as they are ``"stored"``
            or on the ``"upright"`` image. By default the sizes tell, and where they do not, the image is refused.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: a folder, a list or a file is missing, an annotation is wrong, or the download failed.
    """

    _lists: ClassVar[str]  # the folder of ImageSets
    _annotations: ClassVar[tuple[str, str]]  # their folder, their extension
    _published: ClassVar[Callable[..., Any]]  # torchvision's class
    _classes: ClassVar[tuple[str, ...]]  # VOC's own

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        year: str = "2012",
        download: bool = False,
        classes: Sequence[str] | None = None,
        strict: bool = True,
        label_orientation: LabelOrientation | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        if year not in _YEARS:
            raise OptionError.choice(f"data set {self.name!r}", "year", _YEARS, year)
        self._lies = check_label_orientation(self.name, label_orientation)
        self.class_names = self._classes if classes is None else chosen_names(self.name, classes)
        self._folder = self._find(Path(root), split, year, download)
        self.origin = str(self._folder)
        findings = Findings(strict)
        self._files = self._listed(split, findings)
        if not self._files:
            raise DatasetError(
                where=f"{self._folder}, split {split!r}",
                expected="images",
                got="none that can be used",
                remedy="Look at the list and the folders.",
            )
        self._report = findings.report(len(self._files), notes=self._notes())

    @abstractmethod
    def _usable(self, name: str, annotation: Path, findings: Findings) -> bool:
        """Look at one image's annotation when the set is opened."""

    @abstractmethod
    def _notes(self) -> Sequence[str]:
        """Return what is to be said of the annotations as a whole."""

    def __len__(self) -> int:
        return len(self._files)

    def key(self, index: int) -> str:
        """Return the image's name, without its extension."""
        return self._files[index].stem

    def report(self) -> DatasetReport:
        """Return what was left out or clipped, and what the annotations as a whole lack."""
        return self._report

    def _image(self, index: int) -> DecodedImage:
        return decode_image(self._files[index], settings=self._reading)

    def _annotation(self, name: str) -> Path:
        folder, suffix = self._annotations
        return self._folder / folder / f"{name}{suffix}"

    def _find(self, root: Path, split: str, year: str, download: bool) -> Path:
        """Return the folder that holds the images."""
        places = [root / inside.format(year=year) for inside in _INSIDE]
        if download and not any((place / "ImageSets" / self._lists / f"{split}.txt").is_file() for place in places):
            open_published(type(self)._published, self.name, root, download=True, year=year, image_set=split)
        for place in places:
            if (place / _IMAGES).is_dir():
                return place
        existing_folder(root)
        raise DatasetError(
            where=str(root),
            expected=f"a folder {_IMAGES}, there or in VOCdevkit/VOC{year}",
            got="none",
            remedy="Check root and year, or set the option download to true once, with a network.",
        )

    def _listed(self, split: str, findings: Findings) -> list[Path]:
        """Return the images of a split that have an annotation of use."""
        lists = self._folder / "ImageSets" / self._lists
        path = lists / f"{split}.txt"
        if not path.is_file():
            raise DatasetError(
                where=str(lists),
                expected=f"a list {path.name}",
                got=f"{sorted(item.name for item in lists.glob('*.txt'))[:8]}",
                remedy="Choose another split, or write the list: an image's name per line, without extension.",
            )
        images = {file.stem: file for file in (self._folder / _IMAGES).iterdir() if is_image_name(file.name)}
        files: dict[str, Path] = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            name, where = line.strip(), f"{path}, line {number}"
            if not name:
                continue
            if len(name.split()) > 1 or name in files:
                raise DatasetError(
                    where=where,
                    expected="one image's name, not listed before",
                    got=repr(name),
                    remedy="List each name once, without its ending.",
                )
            annotation = self._annotation(name)
            if name not in images:
                findings.add(
                    name, where, f"an image of that name in {self._folder / _IMAGES}", f"no {name!r}", image=True
                )
            elif not annotation.is_file():
                findings.add(name, where, f"a file {annotation}", "none", image=True)
            elif self._usable(name, annotation, findings):
                files[name] = images[name]
        return list(files.values())


class VocDetection(VocFolder):
    """Images with boxes in the folders of PASCAL VOC: ``JPEGImages/``, ``Annotations/*.xml``, ``ImageSets/Main/``.

    VOC counts pixels from 1 and includes the last one; boxes here are x1 = xmin - 1, x2 = xmax. Objects marked
    ``difficult`` are marked as crowd regions, which score and train neither as hits nor as misses. Boxes that stick out
    by less than a pixel are clipped. Images without objects stay. ``strict=False`` leaves out images without a file
    or with a damaged one, objects of other classes, and boxes without an area or outside their image.

    The options are those of `VocFolder`.
    """

    name = "voc-detection"
    source = "the user's images in the folders of PASCAL VOC, Everingham et al., IJCV 2010; or VOC itself"
    target_kind = Boxes.kind
    _lists = "Main"
    _annotations = ("Annotations", ".xml")
    _published = datasets.VOCDetection
    _classes = VOC_CLASSES

    def _usable(self, name: str, annotation: Path, findings: Findings) -> bool:
        try:
            size, objects = read_voc(annotation, self._labels, findings)
        except DatasetError as error:
            if findings.strict:
                raise
            findings.add(name, error.where, error.expected, error.got, image=True)
            return False
        self._objects[name] = size, objects
        return True

    def _listed(self, split: str, findings: Findings) -> list[Path]:
        self._labels: Mapping[str, int] = {name: label for label, name in enumerate(self.class_names)}
        self._objects: dict[str, tuple[tuple[int, int], list[VocObject]]] = {}
        return super()._listed(split, findings)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        image = self._image(index)
        size, objects = self._objects[self.key(index)]
        boxes = Boxes(
            boxes=torch.tensor([item.box for item in objects], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([item.label for item in objects], dtype=torch.int64),
            crowd=torch.tensor([item.difficult for item in objects], dtype=torch.bool),
        )
        return image.samples, upright_target(image, boxes, size[::-1], self._lies, str(self._files[index]))

    def _notes(self) -> Sequence[str]:
        used = {item.label for _, objects in self._objects.values() for item in objects}
        return absent_classes([name for label, name in enumerate(self.class_names) if label not in used])


class VocSegmentation(VocFolder):
    """Images with masks in the folders of PASCAL VOC.

    They are ``JPEGImages/``, ``SegmentationClass/*.png`` and ``ImageSets/Segmentation/``.
    Label 0 is the background; 255, the border around objects, counts for nothing. ``classes`` names the background too.
    ``strict=False`` leaves out images without a file or a mask. A mask of another size or with an unknown label is an
    error when it is read.

    The options are those of `VocFolder`.
    """

    name = "voc-segmentation"
    source = "the user's images in the folders of PASCAL VOC, Everingham et al., IJCV 2010; or VOC itself"
    target_kind = Mask.kind
    _lists = "Segmentation"
    _annotations = ("SegmentationClass", ".png")
    _published = datasets.VOCSegmentation
    _classes = ("background", *VOC_CLASSES)

    def _usable(self, name: str, annotation: Path, findings: Findings) -> bool:
        return True

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        image = self._image(index)
        path = self._annotation(self.key(index))
        mask = read_mask(path, image, classes=len(self.class_names), ignore_index=_IGNORE, lies=self._lies)
        return image.samples, mask

    def _notes(self) -> Sequence[str]:
        return survey_masks(
            lambda place: decode_labels(self._annotation(self._files[place].stem)).samples,
            len(self._files),
            where=str(self._folder / self._annotations[0]),
            class_names=self.class_names,
            ignore_index=_IGNORE,
            chosen=False,
        )
