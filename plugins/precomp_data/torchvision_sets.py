"""Torchvision's downloadable classification sets."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from torchvision import datasets

from precomp_data.geometry import Geometry, PictureDataset
from precomp_data.pictures import to_rgb
from precomp_sdk import DatasetError, Label, OptionError, Target, TargetKind

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
    "TorchvisionSet",
]

_TRAIN_VAL: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "val": {"split": "val"}}
_TRAIN_TEST: Mapping[str, Mapping[str, Any]] = {"train": {"split": "train"}, "val": {"split": "test"}}
_TRAIN_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "val": {"train": False}}


class TorchvisionSet(PictureDataset):
    """A classification set that torchvision downloads, checks and reads.

    Args:
        root: the folder torchvision keeps the set in.
        split: ``"train"`` or ``"val"``; a set published with a test split only has that as ``"val"``.
        download: fetch the set into ``root`` unless it is there.
        resize: see `Geometry`; so are ``crop``, ``augment``, ``zoom`` and ``seed``.
        crop: see `Geometry`.
        augment: see `Geometry`.
        zoom: see `Geometry`.
        seed: see `Geometry`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: the set is not in ``root``, is damaged, or could not be downloaded.
    """

    target_kind = TargetKind.LABEL
    _open: ClassVar[Callable[..., Any]]  # torchvision's class
    _splits: ClassVar[Mapping[str, Mapping[str, Any]]]  # its arguments for each of our splits

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        download: bool = False,
        resize: int | None = None,
        crop: int | None = None,
        augment: bool = False,
        zoom: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(Geometry(resize=resize, crop=crop, augment=augment, zoom=zoom, seed=seed))
        self._load(root, split, download)

    def _load(self, root: str | os.PathLike[str], split: str, download: bool, **options: Any) -> None:
        if split not in self._splits:
            raise OptionError(
                where=f"data set {self.name!r}, split",
                expected="'train' or 'val'",
                got=repr(split),
                remedy="Where a set has a test split only, 'val' is that one.",
            )
        self._split = split
        try:
            self._set = type(self)._open(str(root), download=download, **self._splits[split], **options)
        except Exception as error:  # torchvision lets through what its downloads, archives and parsers raise
            raise DatasetError(
                where=f"data set {self.name!r} in {root}",
                expected="a set that torchvision can download" if download else "a set that was downloaded before",
                got=str(error) or type(error).__name__,
                remedy="Check the network and the free space, or bring the folder from another machine."
                if download
                else "Set the option download to true once, with a network, or give the root of an earlier download.",
            ) from error
        classes = getattr(self._set, "classes", ())  # Imagenette gives the synonyms of each, the common one first
        self.class_names = tuple(name if isinstance(name, str) else str(name[0]) for name in classes)

    def __len__(self) -> int:
        return len(self._set)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        where = f"data set {self.name!r}, {self.key(index)}"
        try:
            image, label = self._set[index]
        except Exception as error:  # Pillow's readers raise whatever their parsing runs into
            raise DatasetError(
                where=where,
                expected="a whole and valid picture",
                got=str(error) or type(error).__name__,
                remedy="Delete the set's folder and download it again.",
            ) from error
        return to_rgb(image, where), Label(index=int(label))

    def key(self, index: int) -> str:
        """Return the split and the index."""
        return f"{self._split}/{index}"


class CIFAR10(TorchvisionSet):
    """10 classes, 32 x 32 pixels, 50000 / 10000 pictures."""

    name = "cifar10"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    _open = datasets.CIFAR10
    _splits = _TRAIN_FLAG


class CIFAR100(TorchvisionSet):
    """100 classes, 32 x 32 pixels, 50000 / 10000 pictures."""

    name = "cifar100"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    _open = datasets.CIFAR100
    _splits = _TRAIN_FLAG


class STL10(TorchvisionSet):
    """10 classes, 96 x 96 pixels, 5000 / 8000 pictures."""

    name = "stl10"
    source = "Coates, Ng, Lee, AISTATS 2011"
    _open = datasets.STL10
    _splits = _TRAIN_TEST


class Flowers102(TorchvisionSet):
    """102 classes of flowers, 1020 / 1020 photographs."""

    name = "flowers102"
    source = "Nilsback, Zisserman, ICVGIP 2008"
    _open = datasets.Flowers102
    _splits = _TRAIN_VAL


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
    _splits: ClassVar[Mapping[str, Mapping[str, Any]]] = {"train": {"split": "trainval"}, "val": {"split": "test"}}


class DTD(TorchvisionSet):
    """47 classes of textures, 1880 / 1880 photographs (the first of ten partitions)."""

    name = "dtd"
    source = "Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi, CVPR 2014"
    _open = datasets.DTD
    _splits = _TRAIN_VAL


class FGVCAircraft(TorchvisionSet):
    """100 aircraft variants, 3334 / 3333 photographs."""

    name = "fgvc-aircraft"
    source = "Maji, Kannala, Rahtu, Blaschko, Vedaldi, arXiv 1306.5151"
    _open = datasets.FGVCAircraft
    _splits = _TRAIN_VAL


class Imagenette(TorchvisionSet):
    """10 ImageNet classes, 9469 / 3925 photographs.

    Args:
        size: which archive: ``"full"`` (1.5 GB), or its short sides reduced to ``"320px"`` or ``"160px"``.
        root: as for `TorchvisionSet`; so are the other options.
        split: see `TorchvisionSet`.
        download: see `TorchvisionSet`.
        resize: see `Geometry`.
        crop: see `Geometry`.
        augment: see `Geometry`.
        zoom: see `Geometry`.
        seed: see `Geometry`.
    """

    name = "imagenette"
    source = "Howard, github.com/fastai/imagenette"
    _open = datasets.Imagenette
    _splits = _TRAIN_VAL

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        size: str = "full",
        download: bool = False,
        resize: int | None = None,
        crop: int | None = None,
        augment: bool = False,
        zoom: float = 1.0,
        seed: int = 0,
    ) -> None:
        PictureDataset.__init__(self, Geometry(resize=resize, crop=crop, augment=augment, zoom=zoom, seed=seed))
        if size not in ("full", "320px", "160px"):
            raise OptionError(
                where=f"data set {self.name!r}, size",
                expected="'full', '320px' or '160px'",
                got=repr(size),
                remedy="Choose one of the published archives.",
            )
        self._load(root, split, download, size=size)


TORCHVISION_SETS: tuple[type[TorchvisionSet], ...] = (  #: every set above
    CIFAR10,
    CIFAR100,
    STL10,
    Flowers102,
    Food101,
    Imagenette,
    OxfordIIITPet,
    DTD,
    FGVCAircraft,
)
