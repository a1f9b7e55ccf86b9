"""Which images go through a network together."""

from collections.abc import Sequence

from precomp_sdk.images import group_by_size
from precomp_sdk.types import Sample

__all__ = ["group_by_padding", "samples_by_size"]


def samples_by_size(samples: Sequence[Sample], batch_size: int) -> list[list[Sample]]:
    """Cut samples into batches of one image size each, keeping their order within a size."""
    groups = group_by_size([sample.image for sample in samples], batch_size)
    return [[samples[place] for place in places] for places in groups]


def group_by_padding(samples: Sequence[Sample], max_padding: float) -> list[list[Sample]]:
    """Put samples together whose batch, padded to its largest height and width, is padding in at most a given share.

    Sizes that are alike come together: they join in the order of their shapes, tall ones first, then of their areas.

    Args:
        samples: the images.
        max_padding: the share of pixels that may be padding, from 0 (equal sizes only) to below 1.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for places in group_by_size([sample.image for sample in samples]):
        height, width = samples[places[0]].image.shape[-2:]
        by_size[height, width] = places
    if max_padding == 0 or len(by_size) == 1:
        return [[samples[place] for place in places] for places in by_size.values()]
    groups: list[list[Sample]] = []
    height = width = filled = 0  # of the batch being filled
    for size in sorted(by_size, key=lambda size: (size[0] <= size[1], size[0] * size[1], size)):
        more = [samples[place] for place in by_size[size]]
        grown = max(height, size[0]), max(width, size[1])
        pixels = filled + len(more) * size[0] * size[1]
        room = grown[0] * grown[1] * (len(groups[-1]) + len(more)) if groups else 0
        if groups and room - pixels <= max_padding * room:
            groups[-1].extend(more)
            (height, width), filled = grown, pixels
        else:
            groups.append(more)
            (height, width), filled = size, len(more) * size[0] * size[1]
    return groups
