import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from precomp_sdk import Boxes, Compressor, Identity, KeepAnswer, LabelScorer, OptionError, Target, TaskModel, cli
from precomp_sdk.chooser import answers_differ
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakePreprocessor, natural_image


class Reader(TaskModel):
    """A black box: answers a word that changes once the image has moved by more than so many levels."""

    name = "reader"
    source = "a double"
    target_kind = "label"
    scorer = LabelScorer()

    def __init__(self, clean: Tensor, levels: float) -> None:
        super().__init__()
        self.clean, self.levels, self.asked = clean, levels, 0

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        raise AssertionError("a black box has no losses")

    def _predict(self, images: Tensor) -> Sequence[Any]:
        self.asked += 1
        moved = (images[0] * 255 - self.clean).abs().mean()
        return ["STOP" if moved <= self.levels else "SHOP"]


@pytest.fixture(scope="module")
def image() -> Tensor:
    return natural_image(24, 36)


def moved(image: Tensor, quality: float) -> float:
    codec = FakeCodec()
    return float((codec.decode(codec.encode(image, quality)).float() - image).abs().mean())


def test_it_takes_the_strongest_compression_that_keeps_the_answer(image: Tensor) -> None:
    sender = Compressor(FakeCodec(), Identity(), ladder=(90, 10))
    for wanted in (20, 47, 80):
        reader = Reader(image.float(), moved(image, wanted) + 1e-3)
        found = next(sender.compress_many([image], KeepAnswer(reader, max_encodes=9)))
        assert moved(image, found.quality) <= reader.levels  # what is taken was asked about
        assert found.quality <= wanted + 1
        assert found.payload == sender.compress(image, found.quality)
        assert found.encodes <= 9
        assert "answers the same" in found.reason
        assert f"not at {found.quality - 1:g}" in found.reason or moved(image, found.quality - 1) <= reader.levels


def test_the_budget_holds_and_the_mildest_is_the_last_resort(image: Tensor) -> None:
    sender = Compressor(FakeCodec(), Identity(), ladder=(90, 10))
    reader = Reader(image.float(), -1.0)  # nothing is ever the same, not even the clean image is "STOP" again
    reader.levels = 0.0
    found = KeepAnswer(reader, max_encodes=3).keep(sender, image)
    assert (found.quality, found.encodes, reader.asked) == (90, 3, 4)
    assert "otherwise even here" in found.reason
    easy = KeepAnswer(Reader(image.float(), 1e9)).keep(sender, image)
    assert (easy.quality, easy.encodes) == (10, 2)  # the middle, then the strongest


def test_the_preprocessor_stands_before_it(image: Tensor) -> None:
    sender = Compressor(FakeCodec(), FakePreprocessor(gain=1.0), ladder=(90, 10))
    found = KeepAnswer(Reader(image.float(), 3.0)).keep(sender, image)
    assert found.payload == sender.compress(image, found.quality)


def test_it_travels_to_workers_without_its_network() -> None:
    target = KeepAnswer(_make, name="reader", tolerance=0.1)
    assert isinstance(target.task, Reader)
    again = pickle.loads(pickle.dumps(target))
    assert again._task is None
    assert isinstance(again.task, Reader)
    assert str(again) == str(target)
    assert "reader, tolerance 0.1" in str(target)


def _make() -> TaskModel:
    return Reader(torch.zeros(3, 4, 4), 1.0)


def test_what_counts_as_the_same() -> None:
    assert answers_differ(torch.tensor([0.2, 3.0]), torch.tensor([0.1, 0.2])) == 0
    assert answers_differ(torch.tensor([0.2, 3.0]), torch.tensor([0.3, 0.2])) == 1
    box, far = [0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 40.0, 40.0]
    clean = Boxes(torch.tensor([box, far]), torch.tensor([1, 2]), scores=torch.tensor([0.9, 0.1]))
    fewer = Boxes(torch.tensor([[1.0, 0.0, 10.0, 10.0]]), torch.tensor([1]), scores=torch.tensor([0.4]))
    assert answers_differ(clean, fewer) == 0  # one below the score is no answer
    assert answers_differ(clean, fewer, score=0.05) == pytest.approx(1 / 3)
    moved_away = Boxes(torch.tensor([[6.0, 0.0, 16.0, 10.0]]), torch.tensor([1]), scores=torch.tensor([0.9]))
    assert answers_differ(clean, moved_away) == 1  # they overlap by a quarter
    nothing = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), scores=torch.zeros(0))
    assert answers_differ(nothing, nothing) == 0
    assert answers_differ(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 1], [1, 0]])) == 0.25
    assert (answers_differ(("a", 3), ("a", 3)), answers_differ("a", "b")) == (0, 1)
    with pytest.raises(OptionError, match="two predictions of one kind"):
        answers_differ(clean, "a")


def test_what_is_refused(image: Tensor) -> None:
    reader = Reader(image.float(), 1.0)
    for options in ({"tolerance": 1.0}, {"score": 2.0}, {"max_encodes": 1}):
        with pytest.raises(OptionError, match=next(iter(options))):
            KeepAnswer(reader, **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="name"):
        KeepAnswer(_make)


def call(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_single_and_bulk_on_the_command_line(tmp_path: Path) -> None:
    for place in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(natural_image(40 + place, 56), tmp_path / "in" / f"{place}.png")
    wanted = ("--keep-answer", "squeezenet", "--max-encodes", 4)
    one = tmp_path / "one.jpg"
    facts = json.loads(call("compress", "general", tmp_path / "in" / "0.png", *wanted, "--json", "--output", one))
    assert facts["encodes"] <= 4
    assert "squeezenet" in facts["reason"]
    out = tmp_path / "out"
    call("compress", "general", tmp_path / "in", *wanted, "--output", out)
    lines = [json.loads(line) for line in (out / "compressed.jsonl").read_text().splitlines()]
    assert {Path(line["source"]).name for line in lines} == {"0.png", "1.png"}
    for line in lines:
        assert (line["status"], line["encodes"] <= 4, "squeezenet" in line["reason"]) == ("done", True, True)
    assert (out / "0.jpg").read_bytes() == one.read_bytes()
    wrong = CliRunner().invoke(
        cli.app, ["compress", "general", str(one), *map(str, wanted), "--bpp", "1", "--output", "x"]
    )
    assert wrong.exit_code == 2
