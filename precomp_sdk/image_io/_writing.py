"""Image files as a receiver writes them."""

from io import BytesIO
from os import PathLike
from pathlib import Path

from PIL import Image
from torch import Tensor

from precomp_sdk.atomic_io import replacing
from precomp_sdk.errors import ImageError
from precomp_sdk.images import check_image

__all__ = ["encode_png", "write_image"]


def write_image(image: Tensor, path: str | PathLike[str]) -> None:
    """Write an image as PNG, without loss and without metadata, atomically.

    Shapes and units:
        image: (3, H, W) uint8.

    Raises:
        ImageError: the image is not ``uint8 (3, H, W)``, or the path does not end in ``.png``.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ImageError(
            where=str(path), expected="a path that ends in .png", got=repr(target.suffix), remedy="PNG loses nothing."
        )
    content = encode_png(image)
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def encode_png(image: Tensor) -> bytes:
    """Return an image as the bytes of a PNG file, without loss and without metadata.

    Shapes and units:
        image: (3, H, W) uint8.

    Raises:
        ImageError: the image is not ``uint8 (3, H, W)``.
    """
    content = BytesIO()
    Image.fromarray(check_image(image, "encode_png").permute(1, 2, 0).cpu().numpy()).save(content, format="PNG")
    return content.getvalue()
