"""Torchvision's downloadable sets. VOC's are in `precomp_data.voc`, with the option ``download``."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets

from precomp_data._torchvision import open_published
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_data.masks import fitted_mask
from precomp_sdk import DatasetError, ImageError, Label, Mask, OptionError, Target
from precomp_sdk.image_io import DecodedImage, ReadSettings, decode_image, decode_labels

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DTD",
    "STL10",
    "TORCHVISION_SETS",
    "FGVCAircraft",
    "Flowers102",
    "Food101",
    "Imagenette",
    "OxfordIIITPet",
    "OxfordIIITPetSegmentation",
    "TorchvisionSet",
]

_TRAIN_VAL: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "val": {"split": "val"}}
_TRAIN_TEST: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "val": {"split": "test"}}
_TRAINVAL_TEST: Mapping[str, Mapping[str, Any]] = {"train": {"split": "trainval"}, "val": {"split": "test"}}
_TRAIN_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "val": {"train": False}}

_IGNORE = 255
_TRIMAP = torch.tensor([_IGNORE, 1, 0, _IGNORE])  # published: 1 the animal, 2 the background, 3 neither for sure


class TorchvisionSet(ImageDataset):
    """A set that torchvision downloads, checks and reads.

    Args:
        root: the folder torchvision keeps the set in.
        split: ``"train"`` or ``"val"``; a set published with a test split only has that as ``"val"``.
        download: fetch the set into ``root`` unless it is there.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: the set is not in ``root``, is damaged, or could not be downloaded.
    """

    target_kind = Label.kind
    _open: ClassVar[Callable[..., Any]]  # torchvision's class
    _splits: ClassVar[Mapping[str, Mapping[str, Any]]] = _TRAIN_VAL  # its arguments for each of our splits
    _options: Mapping[str, Any] = MappingProxyType({})  # its arguments for both

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        download: bool = False,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        if split not in self._splits:
            raise OptionError(
                where=f"data set {self.name!r}, split",
                expected="'train' or 'val'",
                got=repr(split),
                remedy="Where a set has a test split only, 'val' is that one.",
            )
        self._split = split
        options = {**self._splits[split], **self._options}
        self._set = open_published(type(self)._open, self.name, root, download=download, **options)
        self.class_names = self._names()

    def _names(self) -> tuple[str, ...]:
        classes = getattr(self._set, "classes", ())  # Imagenette gives the synonyms of each, the common one first
        return tuple(name if isinstance(name, str) else str(name[0]) for name in classes)

    def __len__(self) -> int:
        return len(self._set)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        where = f"data set {self.name!r}, {self.key(index)}"
        try:
            loaded, found = self._set[index]
            image = decode_image(loaded, settings=self._reading, where=where)
            return image.samples, self._target(found, image, where)  # a mask is decoded only now
        except (DatasetError, ImageError):
            raise
        except Exception as error:  # Pillow's readers raise whatever their parsing runs into
            raise DatasetError(
                where=where,
                expected="a whole and valid image",
                got=str(error) or type(error).__name__,
                remedy="Delete the set's folder and download it again.",
            ) from error

    def _target(self, found: Any, image: DecodedImage, where: str) -> Target:
        """Return torchvision's answer as a target."""
        return Label(index=int(found))

    def key(self, index: int) -> str:
        """Return the split and the index."""
        return f"{self._split}/{index}"


class CIFAR10(TorchvisionSet):
    """10 classes, 32 x 32 pixels, 50000 / 10000 images."""

    name = "cifar10"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    _open = datasets.CIFAR10
    _splits = _TRAIN_FLAG


class CIFAR100(TorchvisionSet):
    """100 classes, 32 x 32 pixels, 50000 / 10000 images."""

    name = "cifar100"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    _open = datasets.CIFAR100
    _splits = _TRAIN_FLAG


class STL10(TorchvisionSet):
    """10 classes, 96 x 96 pixels, 5000 / 8000 images."""

    name = "stl10"
    source = "Coates, Ng, Lee, AISTATS 2011"
    _open = datasets.STL10
    _splits = _TRAIN_TEST


class Flowers102(TorchvisionSet):
    """102 classes of flowers, 1020 / 1020 photographs."""

    name = "flowers102"
    source = "Nilsback, Zisserman, ICVGIP 2008"
    _open = datasets.Flowers102


class Food101(TorchvisionSet):
    """101 classes of dishes, 75750 / 25250 photographs."""

    name = "food101"
    source = "Bossard, Guillaumin, Van Gool, ECCV 2014"
    _open = datasets.Food101
    _splits = _TRAIN_TEST


class OxfordIIITPet(TorchvisionSet):
    """37 breeds of cats and dogs, 3680 / 3669 photographs."""

    name = "oxford-iiit-pet"
    source = "Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012"
    _open = datasets.OxfordIIITPet
    _splits = _TRAINVAL_TEST


class OxfordIIITPetSegmentation(OxfordIIITPet):
    """Cats and dogs before their background, 3680 / 3669 photographs; the line between them counts for nothing."""

    name = "oxford-iiit-pet-segmentation"
    target_kind = Mask.kind
    _options: Mapping[str, Any] = MappingProxyType({"target_types": "segmentation"})

    def _names(self) -> tuple[str, ...]:
        return ("background", "pet")

    def _target(self, found: Any, image: DecodedImage, where: str) -> Target:
        with found:  # closes the file even if it is broken
            labels = decode_labels(found, where=where)
        trimap = fitted_mask(labels, image, classes=4, ignore_index=_IGNORE, where=where).labels
        if bool((trimap == 0).any()):
            raise DatasetError(
                where=where, expected="a trimap of 1, 2 and 3", got="0", remedy="Download the set again."
            )
        return Mask(labels=_TRIMAP[trimap], ignore_index=_IGNORE)


class DTD(TorchvisionSet):
    """47 classes of textures, 1880 / 1880 photographs (the first of ten partitions)."""

    name = "dtd"
    source = "Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi, CVPR 2014"
    _open = datasets.DTD


class FGVCAircraft(TorchvisionSet):
    """100 aircraft variants, 3334 / 3333 photographs."""

    name = "fgvc-aircraft"
    source = "Maji, Kannala, Rahtu, Blaschko, Vedaldi, arXiv 1306.5151"
    _open = datasets.FGVCAircraft


class Imagenette(TorchvisionSet):
    """10 ImageNet classes, 9469 / 3925 photographs.

    Args:
        size: which archive: ``"full"`` (1.5 GB), or its short sides reduced to ``"320px"`` or ``"160px"``.
        root: as for `TorchvisionSet`; so are the other options.
        split: see `TorchvisionSet`.
        download: see `TorchvisionSet`.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.
    """

    name = "imagenette"
    source = "Howard, github.com/fastai/imagenette"
    _open = datasets.Imagenette

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        size: str = "full",
        download: bool = False,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        if size not in ("full", "320px", "160px"):
            raise OptionError(
                where=f"data set {self.name!r}, size",
                expected="'full', '320px' or '160px'",
                got=repr(size),
                remedy="Choose one of the published archives.",
            )
        self._options = {"size": size}
        super().__init__(root=root, split=split, download=download, geometry=geometry, reading=reading)


TORCHVISION_SETS: tuple[type[TorchvisionSet], ...] = (  #: every set above
    CIFAR10,
    CIFAR100,
    STL10,
    Flowers102,
    Food101,
    Imagenette,
    OxfordIIITPet,
    OxfordIIITPetSegmentation,
    DTD,
    FGVCAircraft,
)
