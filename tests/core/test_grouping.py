"""Which images are stacked together."""

import pytest
import torch

from precomp_sdk import OptionError
from precomp_sdk.images import group_by_size, group_equal

A, B, GRAY = torch.zeros(3, 8, 6), torch.zeros(3, 6, 8), torch.zeros(1, 8, 6)


@pytest.mark.parametrize(
    ("images", "limit", "groups"),
    [
        ([], None, []),
        ([A], None, [[0]]),
        ([B, A, B, A, B], None, [[0, 2, 4], [1, 3]]),
        ([B, A, B, A, B], 2, [[0, 2], [4], [1, 3]]),
        ([B, A, B], 1, [[0], [2], [1]]),
        ([A, GRAY], None, [[0], [1]]),
        (torch.zeros(3, 3, 2, 2), 2, [[0, 1], [2]]),
    ],
)
def test_images_of_one_shape_come_together_in_order(images, limit, groups):
    assert group_by_size(images, limit) == groups


def test_any_key_groups():
    assert group_equal([(1, "a"), (1, "b"), (1, "a")]) == [[0, 2], [1]]


def test_a_limit_below_one_is_refused():
    with pytest.raises(OptionError, match=r"option 'limit': expected a whole number of 1 or more; got 0\."):
        group_by_size([A], 0)
