"""The job of docs/walk.md, small: a codec in a file, a network of timm, a Hugging Face data set."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from precomp_sdk import EvaluateSettings, FitProxySettings, TrainSettings, evaluate
from precomp_sdk.testing import FakeDataset

ROOT = Path(__file__).resolve().parents[2]
JOB = re.search(
    r"^<!-- not run: tests/interop [^\n]*timm and datasets [^\n]*\n```python\n(.*?)^```$",
    (ROOT / "docs" / "walk.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
CODEC = re.search(
    r"^<!-- file: packed.py -->\n```python\n(.*?)^```$",
    (ROOT / "docs" / "want" / "own-codec.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of their packages
def test_the_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    timm, datasets = pytest.importorskip("timm"), pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert JOB is not None
    assert CODEC is not None
    Path("packed.py").write_text(CODEC[1], encoding="utf-8")
    samples = FakeDataset(count=16, size=(64, 64), classes=8)
    rows = [
        {"image": samples[place].image.permute(1, 2, 0).numpy(), "label": samples[place].target.index}
        for place in range(len(samples))
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    drawn = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": drawn, "test": drawn}).save_to_disk("images")
    drawn[0]["image"].save("photo.png")
    torch.save(timm.create_model("test_resnet", num_classes=8).state_dict(), "network.pth")
    small = TrainSettings(steps=1, batch_size=2, warmup_steps=0, held_out_images=2, calibration_images=4)
    monkeypatch.setattr("precomp_sdk.TrainSettings", lambda **_: small)
    monkeypatch.setattr(
        "precomp_sdk.evaluate", partial(evaluate, settings=EvaluateSettings(baselines=(), replicates=5))
    )
    monkeypatch.setattr("precomp_sdk.training.trainer.FitProxySettings", partial(FitProxySettings, steps=2))

    exec(compile(JOB[1], "walk.md", "exec"), {})

    assert Path("sender.safetensors").exists()
    assert re.search(r"^\d+ bytes$", capsys.readouterr().out, re.MULTILINE)
