import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from precomp_jpeg import JPEGCodec
from precomp_sdk import (
    Boxes,
    CheckpointError,
    ChooserUse,
    Compressor,
    Identity,
    NotFittedError,
    OptionError,
    QualityChooser,
    QualityError,
    Registry,
    UnknownNameError,
    cli,
    deploy,
)
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeTask, TaskSettings, check, natural_image

FOLDER = Path(deploy.__file__).parent / "shipped"
CODECS = tuple(deploy.shipped_models()["general"])


@pytest.fixture(scope="module")
def image() -> Tensor:
    return natural_image(120, 176)


def test_what_ships_is_small_and_says_its_terms() -> None:
    assert "jpeg" in CODECS
    files = [
        *FOLDER.rglob("*.safetensors")
    ]  # the preprocessors' guide among them: it is the shipped classifier's layers
    assert len(files) > 3
    assert sum(file.stat().st_size for file in files) < 6e6
    notice = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    for network in deploy.shipped_networks():
        assert f"networks/{network}.safetensors" in notice


@pytest.mark.parametrize("codec", CODECS)
def test_general_chooses_for_every_codec(codec: str, image: Tensor) -> None:
    if codec == "bpg":
        pytest.importorskip("av")
    sender = Compressor.load("general", codec=codec)
    assert sender.codec.name == codec
    assert sender.preprocessor.name == {"bpg": "qa-free", "avif": "qa-free"}.get(codec, "identity")
    middle = sorted(sender.ladder)[len(sender.ladder) // 2]
    found = sender.compress_chosen(image, middle)
    assert found.encodes <= 3
    assert found.quality in sender.ladder
    assert "squeezenet" in found.reason
    received = sender.decompress(found.payload, (120, 176))
    assert received.shape == image.shape
    assert found.payload == sender.compress(image, middle)
    sent = sender.preprocess(image, middle)
    assert sent.shape[1] == round(120 * found.resolution)
    assert sender.codec.encode(sent, found.quality) == found.payload
    with pytest.raises(QualityError):
        sender.compress(image, sender.codec.quality_scale.quality(0.0) if codec != "webp" else 95)


def test_operating_points_are_in_order(image: Tensor) -> None:
    sender = Compressor.load("general")
    sizes = [len(sender.compress(image, quality)) for quality in (80, 40, 15, 5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_what_is_there_under_a_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "general").mkdir()
    with pytest.raises(CheckpointError, match=r"general/preprocessor.safetensors"):
        Compressor.load("general")
    with pytest.raises(CheckpointError, match="Did you mean 'general'"):
        Compressor.load("genral")
    with pytest.raises(UnknownNameError, match="squeezenet"):
        deploy.load_shipped_task("squeeze")
    (tmp_path / "general").rmdir()
    with pytest.raises(UnknownNameError, match="'jpeg'"):
        Compressor.load("general", codec="jpg")
    with pytest.raises(CheckpointError, match=r"another.safetensors"):
        Compressor.load("another.safetensors")


def make_sender(**options: Any) -> Compressor:
    codec, dataset = FakeCodec(), FakeDataset()
    chooser = QualityChooser(
        codec, {"own": FakeTask()}, **{"ladder": (90, 40, 10), "resolutions": (1.0, 0.5), **options}
    )
    chooser.fit([dataset[place].image for place in range(4)])
    return Compressor(codec, Identity(), chooser=ChooserUse(chooser, "exact"))


def test_a_sender_with_a_chooser_is_one_file(tmp_path: Path, doubles: Registry) -> None:
    sender, path = make_sender(panel_px=24), tmp_path / "sender.safetensors"
    sender.save(path)
    doubles.add(Identity)
    again = Compressor.load(path, doubles, panel={"own": FakeTask()})
    assert again.chooser is not None
    assert again.chooser.chooser.curve == sender.chooser.chooser.curve  # type: ignore[union-attr]
    assert (again.chooser.search, again.chooser.chooser.panel_px, again.ladder) == ("exact", 24, sender.ladder)
    image = FakeDataset()[5].image
    assert again.compress(image, 40) == sender.compress(image, 40)
    plain = again.without_chooser()
    assert plain.chooser is None
    assert plain.compress(image, 40) == FakeCodec().encode(image, 40)
    with pytest.raises(CheckpointError, match="own"):
        Compressor.load(path, doubles)
    with pytest.raises(CheckpointError, match="a panel"):
        Compressor.load(path, doubles, panel={"own": FakeTask().half()})


def test_at_full_size_no_pixel_is_taken_away(image: Tensor, tmp_path: Path, doubles: Registry) -> None:
    sender = make_sender(resolutions=(0.5,))
    doubles.add(Identity)
    images = [FakeDataset()[place].image for place in range(4)]
    assert all(sender.compress_chosen(one, 10).resolution < 1.0 for one in images)
    whole = sender.at_full_size()
    assert all(whole.compress_chosen(one, quality).resolution == 1.0 for one in images for quality in (90, 40, 10))
    assert whole.digest != sender.digest  # a job begins anew with it
    whole.save(tmp_path / "whole.safetensors")
    again = Compressor.load(tmp_path / "whole.safetensors", doubles, panel={"own": FakeTask()})
    assert again.compress(images[0], 10) == whole.compress(images[0], 10)
    plain = sender.without_chooser()
    assert plain.at_full_size() is plain


@pytest.mark.parametrize(
    "change",
    [
        {"trust": "much"}, {"level": None}, {"level": 2.0},
        {"resolutions": [2.0]}, {"curve": {}}, {"panel": ["own"]}, {"search": "guessed"},
        {"encodes": "3"}, {"panel_px": 1},
    ],
)  # fmt: skip
def test_a_damaged_chooser_is_refused(change: dict[str, object], tmp_path: Path, doubles: Registry) -> None:
    path = tmp_path / "sender.safetensors"
    make_sender().save(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    facts = json.loads(metadata["facts"])
    facts["chooser"].update(change)
    save_file({}, path, metadata={**metadata, "facts": json.dumps(facts)})
    doubles.add(Identity)
    with pytest.raises(CheckpointError, match="chooser"):
        Compressor.load(path, doubles, panel={"own": FakeTask()})


def test_a_chooser_of_other_parts_is_refused() -> None:
    codec = FakeCodec()
    chooser = QualityChooser(codec, {"own": FakeTask()}, ladder=(90, 10))
    with pytest.raises(NotFittedError):
        ChooserUse(chooser)
    chooser.fit([FakeDataset()[place].image for place in range(2)])
    for other, preprocessor in ((FakeCodec(), Identity()), (codec, FakePreprocessor())):
        with pytest.raises(OptionError, match="chooser"):
            Compressor(other, preprocessor, chooser=ChooserUse(chooser))


def test_the_command_says_what_was_chosen(image: Tensor, tmp_path: Path) -> None:
    write_image(image, tmp_path / "photo.png")
    command = ["compress", "general", str(tmp_path / "photo.png"), "--quality", "20", "--output"]
    done = CliRunner().invoke(cli.app, [*command, str(tmp_path / "small.jpg")])
    assert done.exit_code == 0, done.output
    assert "chosen at the operating point 20 by nanodet, squeezenet" in done.stdout
    assert (tmp_path / "small.jpg").read_bytes()[:2] == b"\xff\xd8"
    done = CliRunner().invoke(cli.app, [*command, str(tmp_path / "out"), "--codec", CODECS[-1]])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "compressed.jsonl").read_text())
    assert Path(record["output"]).suffix == Compressor.load("general", codec=CODECS[-1]).codec.suffix()
    assert "operating point 20" in record["reason"]
    assert record["resolution"] in (1.0, 0.7, 0.5)


def test_the_command_keeps_every_pixel_on_demand(image: Tensor, tmp_path: Path) -> None:
    write_image(image, tmp_path / "photo.png")
    command = ["compress", "general", str(tmp_path / "photo.png"), "--quality", "5", "--json", "--output"]
    found = {
        whole: json.loads(CliRunner().invoke(cli.app, [*command, str(tmp_path / "x.jpg"), *whole]).stdout)["resolution"]
        for whole in ((), ("--full-size",))
    }
    assert found[()] < found["--full-size",] == 1.0
    job = [*command[:-1], "--full-size", "--workers", "2", "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(cli.app, job).exit_code == 0
    assert json.loads((tmp_path / "out" / "compressed.jsonl").read_text())["resolution"] == 1.0
    Compressor(JPEGCodec(), Identity(), ladder=(5, 40)).save(tmp_path / "plain.safetensors")
    refused = CliRunner().invoke(
        cli.app, ["compress", str(tmp_path / "plain.safetensors"), *command[2:], "x.jpg", "--full-size"]
    )
    assert refused.exit_code == 2
    assert "chooses a resolution" in refused.stderr


@pytest.mark.slow
def test_nanodet_is_a_task_like_any_other() -> None:
    detector = deploy.load_shipped_task("nanodet")
    check(detector, TaskSettings())
    image = torch.rand(1, 3, 96, 128)
    own = detector.pseudo_labels(image)
    assert float(detector.losses(image, own)[0]) == pytest.approx(0, abs=1e-4)
    assert float(detector.losses(image.flip(3), own)[0]) > 0.01
    boxes = [Boxes(torch.tensor([[10.0, 20.0, 70.0, 80.0]]), torch.tensor([3]))]
    assert float(detector.losses(image, boxes)[0]) > 1.0
    assert [tuple(part.shape[:2]) for part in detector.features(image)] == [(1, 80)] * 3


def test_nanodet_finds_what_is_there(shared_data: Path) -> None:
    detector = deploy.load_shipped_task("nanodet")
    from precomp_sdk import read_image

    found = detector.predict(read_image(shared_data / "kodak" / "kodim20.png")[None].float() / 255)[0]
    assert 4 in found.labels[found.scores > 0.3].tolist()  # an aeroplane
