"""Errors, qualities, records and the 8-bit boundary."""

import math
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch

from precomp_sdk import (
    Boxes,
    ImageError,
    Label,
    Mask,
    PrecompError,
    QualityError,
    QualityScale,
    RateAccuracyCurve,
    RatePoint,
    Transcoded,
    check_batch,
    check_image,
    errors,
    nearest,
    pad_to_multiple,
    round_to_8_bit,
    stack_images,
    to_float,
    to_uint8,
)

KINDS = [
    item
    for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, PrecompError) and item is not PrecompError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_a_builtin_too_and_says_where_what_and_how(kind: type[PrecompError]) -> None:
    error = kind(where="here", expected="this", got="that", remedy="Do so.")

    assert len(KINDS) >= 18
    assert any(
        base.__module__ == "builtins" and base not in (Exception, BaseException, object) for base in kind.__mro__
    )
    assert str(error) == "here: expected this; got that. Do so."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.where, again.expected, again.got, again.remedy) == ("here", "this", "that", "Do so.")


def test_nearest_names_what_is_close_else_everything() -> None:
    assert nearest("jpg", ["jpeg", "bpg", "webp"]) == "Did you mean 'jpeg' or 'bpg'?"
    assert nearest("zzz", ["b", "a"]) == "Known: 'a', 'b'."
    assert nearest("zzz", []) == "Nothing is known here."


JPEG = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 50))
QP = QualityScale("QP", 0, 51, higher_is_better=False, ladder=(22, 37), integer=False)


def test_strength_runs_from_0_mildest_to_1_strongest_on_every_scale() -> None:
    assert (JPEG.strength(100), JPEG.strength(1)) == (0.0, 1.0)
    assert (QP.strength(0), QP.strength(51)) == (0.0, 1.0)
    assert QP.strength(25.5) == 0.5
    assert JPEG.strength(20) > JPEG.strength(30)
    assert QP.strength(20) < QP.strength(30)
    assert JPEG.from_mild_to_strong() == (50, 5)
    assert QP.from_mild_to_strong((40, 10, 30)) == (10, 30, 40)


@pytest.mark.parametrize(
    "quality",
    [0, 101, -1, math.nan, math.inf, "high", "30", b"30", True, np.bool_(True), torch.tensor(True), None, 5.5, [5]],
)
def test_a_quality_off_the_scale_is_refused(quality: Any) -> None:
    with pytest.raises(QualityError, match="quality: expected a whole number from 1 to 100"):
        JPEG.check(quality)
    with pytest.raises(QualityError):
        JPEG.strength(quality)


@pytest.mark.parametrize("quality", [-0.1, 51.5, math.nan])
def test_a_scale_of_fractions_has_ends_too(quality: float) -> None:
    assert QP.check(31.25) == 31.25
    with pytest.raises(QualityError, match="QP: expected a number from 0 to 51"):
        QP.check(quality)


@pytest.mark.parametrize(
    "changes",
    [{"minimum": 100}, {"minimum": 101}, {"ladder": ()}, {"ladder": (5, 5)}, {"ladder": (5, 0)}, {"ladder": (5.5,)}],
)
def test_a_scale_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    options = {"name": "quality", "minimum": 1, "maximum": 100, "higher_is_better": True, "ladder": (5,)}
    with pytest.raises(QualityError):
        QualityScale(**{**options, **changes})


def test_kinds_of_targets() -> None:
    boxes = Boxes(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    mask = Mask(labels=torch.zeros(2, 3, dtype=torch.int64))

    assert [item.kind for item in (Label(3), boxes, mask)] == [Label.kind, Boxes.kind, Mask.kind]


def test_bits_per_pixel_count_every_pixel() -> None:
    assert Transcoded(torch.zeros(3, 4, 5, dtype=torch.uint8), bits=60).bpp == 3.0


def test_points_are_frozen_and_pickle() -> None:
    point = RatePoint(quality=5, bpp=0.5, scores={"top1": 0.5}, task_loss=1.0)

    with pytest.raises(TypeError):
        point.scores["top1"] = 1.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        point.bpp = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(point)) == point


def test_points_of_a_curve_are_sorted_by_rate() -> None:
    points = tuple(RatePoint(quality, bpp, {}, 0.0) for quality, bpp in ((5, 0.5), (10, 0.25), (20, 1.0)))

    assert [point.bpp for point in RateAccuracyCurve("anchor", points).points] == [0.25, 0.5, 1.0]


def image(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize(
    "wrong", [image(2, 4, 4), image(3, 4), image(3, 0, 4), image(3, 4, 4, dtype=torch.float32), None]
)
def test_what_is_no_8_bit_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError, match=r"^there: expected a uint8 tensor \(3, H, W\)"):
        check_image(wrong, "there")


@pytest.mark.parametrize(
    "wrong",
    [image(1, 3, 4, 4), image(3, 4, 4, dtype=torch.float32), torch.zeros(0, 3, 4, 4), torch.zeros(1, 4, 4, 4), 3],
)
def test_what_is_no_float_batch_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError, match=r"^there: expected a float tensor \(N, 3, H, W\)"):
        check_batch(wrong, "there")


def test_right_images_come_back_as_they_are() -> None:
    one, batch = image(3, 1, 1), torch.zeros(1, 3, 1, 1)

    assert check_image(one, "") is one
    assert check_batch(batch, "") is batch


def test_every_8_bit_value_survives_the_way_to_float_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)

    assert torch.equal(to_uint8(to_float(values)), values)
    assert to_float(values)[-1] == 1.0


def test_rounding_is_to_the_nearest_and_clips() -> None:
    samples = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 7.0, math.inf, -math.inf])

    assert to_uint8(samples).tolist() == [0, 0, 1, 255, 255, 255, 0]
    assert torch.equal(round_to_8_bit(samples[:5]), to_float(to_uint8(samples[:5])))


def test_the_gradient_passes_rounding_but_not_clipping() -> None:
    samples = torch.tensor([-0.5, 0.3, 0.7, 1.5], requires_grad=True)

    (gradient,) = torch.autograd.grad(round_to_8_bit(samples).sum(), samples)

    assert gradient.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert not to_uint8(samples).requires_grad


def test_wrong_types_and_nan_do_not_cross_the_boundary() -> None:
    with pytest.raises(ImageError, match="expected uint8 samples"):
        to_float(torch.zeros(3))
    with pytest.raises(ImageError, match="expected float samples"):
        to_uint8(image(3))
    with pytest.raises(ImageError, match="got NaN"):
        to_uint8(torch.tensor([0.5, math.nan]))


def test_images_of_one_size_are_stacked() -> None:
    assert stack_images([image(3, 2, 4), image(3, 2, 4)]).shape == (2, 3, 2, 4)
    for wrong in ([], [image(3, 2, 4), image(3, 4, 2)], [image(3, 2, 4, dtype=torch.float32)]):
        with pytest.raises(ImageError):
            stack_images(wrong)


@pytest.mark.parametrize(
    ("size", "multiple", "padded"), [((5, 7), 4, (8, 8)), ((8, 8), 8, (8, 8)), ((1, 1), 16, (16, 16))]
)
def test_padding_repeats_the_border_on_the_right_and_below(
    size: tuple[int, int], multiple: int, padded: tuple[int, int]
) -> None:
    batch = torch.rand(1, 3, *size)

    result = pad_to_multiple(batch, multiple)

    assert tuple(result.shape[-2:]) == padded
    assert torch.equal(result[..., : size[0], : size[1]], batch)
    assert torch.equal(result[..., -1, -1], batch[..., -1, -1])
    assert torch.equal(result[..., 0, size[1] - 1 :], batch[..., 0, -1:].expand(1, 3, padded[1] - size[1] + 1))
