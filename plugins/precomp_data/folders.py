"""Folders of images, with a class per folder or without labels."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from precomp_data._names import chosen_names
from precomp_data.geometry import Geometry, ImageDataset
from precomp_sdk import DatasetError, Label, OptionError, Target, nearest
from precomp_sdk.image_io import MAX_PIXELS, ReadSettings, is_image_name, read_image

__all__ = ["ImageFolder", "UnlabelledFolder", "existing_folder", "images_below"]

_SPLITS = ("train", "val")


class ImageFolder(ImageDataset):
    """Images in ``root/<split>/<class>/``, at any depth below the class folder.

    Labels are 0 .. K-1 in the order of ``class_names``. Files are told by the extensions Pillow reads; hidden files and
    others are passed over. Both splits must have the same class folders, else labels would mean different classes.

    Args:
        root: the folder that holds ``train`` and ``val``.
        split: ``"train"`` or ``"val"``.
        classes: use these class folders only, in this order; by default all of them, sorted.
        resize: see `Geometry`; so are ``crop``, ``augment``, ``zoom`` and ``seed``.
        crop: see `Geometry`.
        augment: see `Geometry`.
        zoom: see `Geometry`.
        seed: see `Geometry`.
        max_pixels: larger images raise an error, see `read_image`.

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
        resize: int | None = None,
        crop: int | None = None,
        augment: bool = False,
        zoom: float = 1.0,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(Geometry(resize=resize, crop=crop, augment=augment, zoom=zoom, seed=seed))
        self._root = Path(root)
        self._reading = ReadSettings(max_pixels=max_pixels)
        folder = _split_folder(self._root, split, self.name)
        self.class_names = _choose(_class_folders(self._root, folder), classes, folder)
        files = [(name, list(images_below(folder / name))) for name in self.class_names]
        empty = [name for name, found in files if not found]
        if empty:
            raise _wrong_folder(folder, "images in every class folder", f"none in {empty}", "Fill or remove them.")
        self._files = [(f"{split}/{name}/{file}", label) for label, (name, found) in enumerate(files) for file in found]

    def __len__(self) -> int:
        return len(self._files)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        file, label = self._files[index]
        return read_image(self._root / file, settings=self._reading), Label(index=label)

    def key(self, index: int) -> str:
        """Return the image's path below ``root``, with forward slashes."""
        return self._files[index][0]


class UnlabelledFolder(ImageDataset):
    """All images below a folder, without targets.

    Args:
        root: the folder.
        split: take the images below ``root/train`` or ``root/val`` only; None takes all.
        resize: see `Geometry`; so are ``crop``, ``augment``, ``zoom`` and ``seed``.
        crop: see `Geometry`.
        augment: see `Geometry`.
        zoom: see `Geometry`.
        seed: see `Geometry`.
        max_pixels: larger images raise an error, see `read_image`.

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
        resize: int | None = None,
        crop: int | None = None,
        augment: bool = False,
        zoom: float = 1.0,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(Geometry(resize=resize, crop=crop, augment=augment, zoom=zoom, seed=seed))
        self._reading = ReadSettings(max_pixels=max_pixels)
        self._root = existing_folder(Path(root)) if split is None else _split_folder(Path(root), split, self.name)
        self._files = list(images_below(self._root))
        if not self._files:
            raise _wrong_folder(
                self._root,
                "images",
                "none",
                "Check the folder, and that file names end in .jpg, .png or the like.",
            )

    def __len__(self) -> int:
        return len(self._files)

    def _read(self, index: int) -> tuple[Tensor, Target | None]:
        return read_image(self._root / self._files[index], settings=self._reading), None

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


def images_below(folder: Path) -> Iterator[str]:
    """Yield the sorted paths, relative and with forward slashes, of the images below a folder."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        found += [(below / name).as_posix() for name in files if is_image_name(name)]
    yield from sorted(found)


def _wrong_folder(folder: Path, expected: str, got: str, remedy: str) -> DatasetError:
    return DatasetError(where=str(folder), expected=expected, got=got, remedy=remedy)
