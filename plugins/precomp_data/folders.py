"""Folders of images, with a class per folder or without labels."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from precomp_data._names import chosen_names
from precomp_data._walk import find_images
from precomp_data.geometry import AS_STORED, DEFAULT_READING, Geometry, ImageDataset
from precomp_sdk import DatasetError, DatasetReport, Label, OptionError, SkippedSample, Target, nearest
from precomp_sdk.image_io import ReadSettings, read_image

__all__ = ["ImageFolder", "UnlabelledFolder", "existing_folder"]

_SPLITS = ("train", "val")


class ImageFolder(ImageDataset):
    """Images in ``root/<split>/<class>/``, at any depth below the class folder.

    Labels are 0 .. K-1 in the order of ``class_names``. Both splits must have the same class folders, else labels would
    mean different classes. Links are followed, each folder once. Files are told by their endings; `report` names images
    that are left out: hidden ones, those of formats that are not read here, those in no class folder.

    Args:
        root: the folder that holds ``train`` and ``val``.
        split: ``"train"`` or ``"val"``.
        classes: use these class folders only, in this order; by default all of them, sorted.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: the folder, the split or a class is missing or empty, or the splits' classes differ.
    """

    name = "image-folder"
    source = "the user's images, a folder per class"
    target_kind = Label.kind

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str = "train",
        classes: Sequence[str] | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        self._root = Path(root)
        folder = _split_folder(self._root, split, self.name)
        self.class_names = _choose(_class_folders(self._root, folder), classes, folder)
        self.origin = str(folder)
        found = {
            name: find_images(
                folder / name, apart=[folder, *(folder / other for other in self.class_names if other != name)]
            )
            for name in self.class_names
        }
        empty = [name for name, images in found.items() if not images.files]
        if empty:
            raise _wrong_folder(folder, "images in every class folder", f"none in {empty}", "Fill or remove them.")
        self._files = [
            (f"{split}/{name}/{file}", label) for label, name in enumerate(found) for file in found[name].files
        ]
        beside = find_images(folder, below=False)
        left_out = [SkippedSample(f"{split}/{file}", "in no class folder") for file in beside.files]
        for name, images in found.items():
            left_out += [SkippedSample(f"{split}/{name}/{item.key}", item.reason) for item in images.left_out]
        self._left_out = tuple(left_out)

    def __len__(self) -> int:
        return len(self._files)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        file, label = self._files[index]
        return read_image(self._root / file, settings=self._reading), Label(index=label)

    def report(self) -> DatasetReport:
        """Return what was left out, and why."""
        return DatasetReport(images=len(self), left_out=self._left_out)

    def key(self, index: int) -> str:
        """Return the image's path below ``root``, with forward slashes."""
        return self._files[index][0]


class UnlabelledFolder(ImageDataset):
    """All images below a folder, without targets.

    Args:
        root: the folder.
        split: take the images below ``root/train`` or ``root/val`` only; None takes all.
        geometry: how images are resized and cropped, see `Geometry`.
        reading: how image files are read, see `ReadSettings`.

    Raises:
        OptionError: an option has a wrong value.
        DatasetError: the folder is missing, or no image is in it.
    """

    name = "unlabelled-images"
    source = "the user's images, without labels"
    target_kind = None

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        split: str | None = None,
        geometry: Geometry = AS_STORED,
        reading: ReadSettings = DEFAULT_READING,
    ) -> None:
        super().__init__(geometry, reading)
        self._root = existing_folder(Path(root)) if split is None else _split_folder(Path(root), split, self.name)
        found = find_images(self._root)
        self._files, self._left_out = found.files, found.left_out
        if not self._files:
            others = f"none; {found.left_out[0].key}: {found.left_out[0].reason}" if found.left_out else "none"
            remedy = "Check the folder, and that file names end in .jpg, .png or the like."
            raise _wrong_folder(self._root, "images", others, remedy)

    def __len__(self) -> int:
        return len(self._files)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        return read_image(self._root / self._files[index], settings=self._reading), None

    def report(self) -> DatasetReport:
        """Return what was left out, and why."""
        return DatasetReport(images=len(self), left_out=self._left_out)

    def key(self, index: int) -> str:
        """Return the image's path below its folder, with forward slashes."""
        return self._files[index]


def _split_folder(root: Path, split: str, name: str) -> Path:
    if split not in _SPLITS:
        raise OptionError(
            where=f"data set {name!r}, split",
            expected="'train' or 'val'",
            got=repr(split),
            remedy="Name the folders train and val.",
        )
    folder = existing_folder(root) / split
    if not folder.is_dir():
        raise _wrong_folder(root, f"a folder {split!r} in it", f"folders {_folders(root)}", "Create or rename it.")
    return folder


def existing_folder(root: Path) -> Path:
    """Return a folder's path.

    Raises:
        DatasetError: there is none.
    """
    if not root.is_dir():
        raise _wrong_folder(root, "a folder", "a file" if root.exists() else "nothing there", "Check the path of root.")
    return root


def _folders(parent: Path) -> list[str]:
    return sorted(item.name for item in parent.iterdir() if item.is_dir() and not item.name.startswith("."))


def _class_folders(root: Path, folder: Path) -> dict[str, list[str]]:
    """Return the class folders of every split there is, by split; this split's must exist."""
    found = {split: _folders(root / split) for split in _SPLITS if (root / split).is_dir()}
    if not found[folder.name]:
        raise _wrong_folder(
            folder,
            "a folder per class",
            "no folder",
            "Sort the images into class folders, or use the data set 'unlabelled-images', which needs no labels.",
        )
    return found


def _choose(found: dict[str, list[str]], wanted: Sequence[str] | None, folder: Path) -> tuple[str, ...]:
    """Return the class names of a split, in the order of their labels."""
    here = found[folder.name]
    if wanted is None:
        known = {name for names in found.values() for name in names}
        differing = sorted(name for name in known if any(name not in names for names in found.values()))
        if differing:
            raise _wrong_folder(
                folder.parent,
                "the same class folders in train and val",
                f"{differing} in one of them only",
                "Add or rename the folders, or give the classes to use by the option classes.",
            )
        return tuple(here)
    names = chosen_names("image-folder", wanted)
    for name in names:
        if name not in here:
            raise _wrong_folder(folder, "class folders named by the option classes", repr(name), nearest(name, here))
    return names


def _wrong_folder(folder: Path, expected: str, got: str, remedy: str) -> DatasetError:
    return DatasetError(where=str(folder), expected=expected, got=got, remedy=remedy)
