"""The one boundary between 8-bit images and float tensors, and the guards on both sides.

At the codec boundary an image is ``uint8 (3, H, W)``, sRGB. At the network boundary it is ``float32 (N, 3, H, W)`` in
[0, 1]. Nothing else in the package multiplies or divides by 255.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from precomp_sdk.errors import ImageError, OptionError

__all__ = [
    "check_batch",
    "check_image",
    "coded_size",
    "downscale",
    "group_by_size",
    "group_equal",
    "pad_to_multiple",
    "round_to_8_bit",
    "stack_images",
    "stack_padded",
    "to_float",
    "to_uint8",
    "upscale",
]


def check_image(image: Tensor, where: str) -> Tensor:
    """Return ``image`` if it is ``uint8 (3, H, W)`` with H, W >= 1.

    Raises:
        ImageError: it is not.
    """
    if not isinstance(image, Tensor):
        raise _image_error(where, "a uint8 tensor (3, H, W)", type(image).__name__)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise _image_error(where, "a uint8 tensor (3, H, W) with H, W >= 1", f"{image.dtype} {tuple(image.shape)}")
    return image


def check_batch(images: Tensor, where: str) -> Tensor:
    """Return ``images`` if it is a float batch ``(N, 3, H, W)`` with N, H, W >= 1.

    Raises:
        ImageError: it is not.
    """
    if not isinstance(images, Tensor):
        raise _image_error(where, "a float tensor (N, 3, H, W)", type(images).__name__)
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise _image_error(
            where, "a float tensor (N, 3, H, W) with N, H, W >= 1", f"{images.dtype} {tuple(images.shape)}"
        )
    return images


def to_float(image: Tensor) -> Tensor:
    """Convert 8-bit samples to float32 in [0, 1].

    Shapes and units:
        image: any shape, uint8. Returns the same shape, float32.

    Raises:
        ImageError: the dtype is not uint8.
    """
    if image.dtype != torch.uint8:
        raise _image_error("to_float", "uint8 samples", str(image.dtype))
    return image.to(torch.float32).div_(255.0)


def to_uint8(image: Tensor) -> Tensor:
    """Round float samples in [0, 1] to 8 bits; values outside are clipped. No gradient.

    Raises:
        ImageError: the dtype is not floating point, or a sample is NaN.
    """
    if not image.is_floating_point():
        raise _image_error("to_uint8", "float samples in [0, 1]", str(image.dtype))
    scaled = image.detach().to(torch.float32) * 255.0
    if scaled.numel() and bool(torch.isnan(torch.aminmax(scaled).min)):  # one NaN is the least and the largest
        raise _image_error("to_uint8", "float samples in [0, 1]", "NaN")
    return scaled.round_().clamp_(0.0, 255.0).to(torch.uint8)


def round_to_8_bit(images: Tensor) -> Tensor:
    """Round to multiples of 1/255 inside [0, 1]; the gradient passes straight through the rounding, not the clipping.

    Source: straight-through estimator, Bengio et al., arXiv 1308.3432.
    """
    clipped = images.clamp(0.0, 1.0)
    return clipped + ((clipped * 255.0).round() / 255.0 - clipped).detach()


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack uint8 images of equal size into a float batch.

    Shapes and units:
        images: each (3, H, W) uint8. Returns (N, 3, H, W) float32 in [0, 1].

    Raises:
        ImageError: there is no image, or the sizes differ.
    """
    sizes = {tuple(check_image(image, "stack_images").shape[1:]) for image in images}
    if len(sizes) != 1:
        raise _image_error("stack_images", "one or more images of one size", f"sizes {sorted(sizes)}")
    return to_float(torch.stack(list(images)))


def stack_padded(images: Sequence[Tensor]) -> Tensor:
    """Stack uint8 images of any sizes into a float batch, padded right and below by repeating their borders.

    What padding does to a network is this, wherever a batch is padded: inside its receptive field of the lower and the
    right border, an image seems to go on as its border ends, instead of ending as the network's own convolutions let it
    end. A network that averages over the whole image (group normalization, squeeze and excitation, a global guide)
    averages over the padding too, so its answer depends on the sizes of the others in the batch. Cut the result to each
    image's size: codec, proxy, task and every loss then see no padding.

    Shapes and units:
        images: each (3, H, W) uint8. Returns (N, 3, H', W') float32 in [0, 1], H' and W' the largest of each.

    Raises:
        ImageError: there is no image.
    """
    if not images:
        raise _image_error("stack_padded", "one or more images", "none")
    sizes = {tuple(check_image(image, "stack_padded").shape[1:]) for image in images}
    if len(sizes) == 1:
        return stack_images(images)
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    padded = [
        functional.pad(to_float(image), (0, width - image.shape[2], 0, height - image.shape[1]), mode="replicate")
        for image in images
    ]
    return torch.stack(padded)


def group_by_size(images: Sequence[Tensor] | Tensor, limit: int | None = None) -> list[list[int]]:
    """Return which images can be stacked: the places of those of one shape, in order, sizes as they first occur.

    Args:
        images: each (3, H, W), or a batch of them.
        limit: most images in a group; None for no limit.

    Example:
        >>> group_by_size([torch.zeros(3, 8, 8), torch.zeros(3, 4, 4), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)], 2)
        [[0, 2], [3], [1]]
    """
    return group_equal([tuple(image.shape) for image in images], limit)


def group_equal(keys: Sequence[Hashable], limit: int | None = None) -> list[list[int]]:
    """Return the places of equal keys, in order, at most ``limit`` together.

    Raises:
        OptionError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise OptionError.number("group_by_size", "limit", "a whole number of 1 or more", limit)
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return [
        places[first : first + (limit or len(places))]
        for places in groups.values()
        for first in range(0, len(places), limit or len(places))
    ]


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad a batch on its right and lower side, by repeating the border, to sizes divisible by ``multiple``.

    Shapes and units:
        images: (N, 3, H, W). Returns (N, 3, H', W'), H' and W' the next multiples.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return functional.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def coded_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the height and width at which an image is coded at a resolution: the rounded products, 1 at least.

    Raises:
        OptionError: the factor is not above 0 and up to 1.
    """
    if not 0.0 < factor <= 1.0:
        raise OptionError(
            where="resolution",
            expected="a factor of height and width, above 0 and up to 1",
            got=repr(factor),
            remedy="Look at what Preprocessor.resolution returns.",
        )
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def downscale(images: Tensor, factor: float) -> Tensor:
    """Downscale a batch to ``factor`` of its height and width: bicubic, antialiased, clipped to [0, 1]; differentiable.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1]. Returns (N, 3, H', W'), their `coded_size`; ``images`` itself where that is
        theirs.

    Raises:
        ImageError: the images are not a float batch.
        OptionError: the factor is not above 0 and up to 1.
    """
    check_batch(images, "downscale")
    size = coded_size((images.shape[-2], images.shape[-1]), factor)
    if size == tuple(images.shape[-2:]):
        return images
    return functional.interpolate(images, size, mode="bicubic", antialias=True).clamp(0.0, 1.0)


def upscale(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a batch back to the size it was downscaled from: bicubic, clipped to [0, 1]; differentiable.

    Shapes and units:
        images: (N, 3, H', W') in [0, 1]; size: (H, W), not below H' and W'. Returns (N, 3, H, W); ``images`` itself
        where that is its size.

    Raises:
        ImageError: the images are not a float batch, or the size is below theirs.
    """
    height, width = check_batch(images, "upscale").shape[-2:]
    if tuple(size) == (height, width):
        return images
    if len(size) != 2 or any(not isinstance(side, int) for side in size) or size[0] < height or size[1] < width:
        raise ImageError(
            where="upscale",
            expected=f"a height and a width, whole numbers from {height} and {width} up",
            got=repr(tuple(size)),
            remedy="Give the size of the source: height first.",
        )
    return functional.interpolate(images, (size[0], size[1]), mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _image_error(where: str, expected: str, got: str) -> ImageError:
    return ImageError(where=where, expected=expected, got=got, remedy="Convert it first: see precomp_sdk.images.")
