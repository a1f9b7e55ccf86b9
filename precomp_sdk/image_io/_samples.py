"""Samples of any depth, colour and transparency to 8-bit sRGB."""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from precomp_sdk.errors import ImageError

__all__ = ["low_bytes", "scale_samples", "scale_to_8_bit", "to_srgb"]

_16_BIT = 65535
_DARKEST_QUARTER = 16383  # the white level of 14 bits
_BACKGROUND = (255, 255, 255)  # what lies under transparent pixels
_SRGB_TOLERANCE = 2  # levels, of 255

#: Pillow unpacks 16-bit colour to its upper bytes. Read in the other byte order it unpacks the lower ones.
_OTHER_ORDER = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if np.little_endian else "L"))
}
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # of profiles, as Pillow's modes


def low_bytes(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> NDArray[np.uint8] | None:
    """Return the lower bytes of a file of 16-bit colour, or None where Pillow gives all that the file holds.

    Args:
        image: with its header read and its samples not.
        again: opens the same file once more.

    Shapes and units:
        returns: (H, W, C), as many channels as the image will have.
    """
    rawmode = _rawmode(image)
    if rawmode == "LA;16B":  # gray and alpha: four bytes a pixel, which are read as they are
        with again() as other:
            _set_rawmode(other, "RGBA")
            whole = np.asarray(other)
        return whole[..., [1, 1, 1, 3]]
    if rawmode not in _OTHER_ORDER:
        return None
    with again() as other:
        _set_rawmode(other, _OTHER_ORDER[rawmode])
        return np.asarray(other)


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return how the file's samples are laid out, in Pillow's words; empty where its parts (TIFF's strips) differ."""
    found = {str(tile.args[0] if isinstance(tile.args, tuple) else tile.args) for tile in image.tile if tile.args}
    return found.pop() if len(found) == 1 else ""


def _set_rawmode(image: ImageFile.ImageFile, rawmode: str) -> None:
    image.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in image.tile
    ]


def scale_to_8_bit(
    image: Image.Image, low: NDArray[np.uint8] | None, white_level: float | None, where: str
) -> Image.Image:
    """Scale a Pillow image's samples of more than 8 bits, see `scale_samples`; others stay.

    A colour that is marked as transparent is looked up before the scaling.

    Raises:
        ImageError: as `scale_samples` raises it.
    """
    if low is not None:
        samples = (np.asarray(image).astype(np.uint16) << 8) | low
    elif image.mode == "F" or image.mode.startswith("I"):
        samples = np.asarray(image)[..., None]
    else:
        return image
    scaled = scale_samples(samples, white_level, where)
    clear = image.info.get("transparency")
    if clear is not None and samples.shape[2] != 4:
        seen = np.where((samples == clear).all(-1, keepdims=True), 0, 255).astype(np.uint8)
        scaled = np.concatenate([np.broadcast_to(scaled, (*scaled.shape[:2], 3)), seen], axis=2)
    result = Image.fromarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled)
    result.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return result


def scale_samples(samples: NDArray[Any], white_level: float | None, where: str) -> NDArray[np.uint8]:
    """Scale samples so that the white level becomes 255; alpha, a fourth channel, always ends at its type's largest.

    Shapes and units:
        samples: (H, W, C), integers or floats. Returns the same shape, uint8.

    Raises:
        ImageError: the samples do not fit the white level, have none, or lie in the darkest quarter of 16 bits.
    """
    colour = samples[..., :3]
    scaled = np.rint(colour * (255.0 / _white(colour, white_level, where))).astype(np.uint8)
    if samples.shape[2] < 4:
        return scaled
    opaque = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else 1.0
    return np.concatenate([scaled, np.rint(samples[..., 3:] * (255.0 / opaque)).astype(np.uint8)], axis=2)


def _white(samples: NDArray[Any], white_level: float | None, where: str) -> float:
    """Return the white level of an image's samples, or refuse them."""
    least, most = samples.min(), samples.max()
    found = f"samples from {least} to {most}"
    if white_level is None and (samples.dtype.kind == "f" or not 0 <= least <= most <= _16_BIT):
        raise ImageError(
            where=where,
            expected="8 or 16 bits per sample, or the option white_level",
            got=found,
            remedy="Give white_level, the sample that is white, or convert the image to 8 or 16 bits.",
        )
    if white_level is None and 0 < most <= _DARKEST_QUARTER:
        bits = next(usual for usual in (8, 10, 12, 14) if int(most).bit_length() <= usual)
        raise ImageError(
            where=where,
            expected="samples that use their 16 bits",
            got=f"{found}, which would be nearly black: most likely {bits} bits in a file of 16",
            remedy=f"Give the white level: white_level = {2**bits - 1} for {bits} bits, or {_16_BIT} if it is so dark.",
        )
    white = float(_16_BIT if white_level is None else white_level)
    if not 0 <= least <= most <= white:  # also where one is not a number
        raise ImageError(
            where=where,
            expected=f"samples from 0 to the white level, {white:g}",
            got=found,
            remedy="Raise white_level to the largest sample, or leave it out.",
        )
    return white


def to_srgb(image: Image.Image) -> Image.Image:
    """Return an 8-bit image as RGB: its profile applied, transparent pixels on the background."""
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    colours = _apply_profile(image, profile) if profile else image.convert("RGB")
    if alpha is None:
        return colours
    ground = Image.new("RGBA", colours.size, (*_BACKGROUND, 255))
    colours.putalpha(alpha)
    return Image.alpha_composite(ground, colours).convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    for mode in (image.mode, "RGB") if image.mode == "L" else (image.mode,):  # gray files often hold an RGB profile
        transform = _transform(profile, mode)
        if transform is not None:
            converted = transform.apply(image.convert(mode))
            converted.info.pop("icc_profile", None)
            return converted
    return image.convert("RGB")


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where it is damaged, of another kind of samples, or sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if _SPACES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode in ("RGB", "L"):
            steps = np.linspace(0, 255, 9).round().astype(np.uint8)
            grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
            probe = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
            moved = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
            if int(np.abs(moved).max()) <= _SRGB_TOLERANCE:
                return None
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return transform
