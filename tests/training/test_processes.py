"""Two processes, started by torchrun, end with the same weights and train on different images."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import torch
from lightning_fabric import Fabric
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
codec, network, task = FakeCodec(), FakePreprocessor(), FakeTask()
settings = TrainSettings(
    steps=3, batch_size=3, ladder=(5, 30), held_out_images=4, calibration_images=6, train=("preprocessor", "task")
)
trainer = Trainer(
    codec=codec, proxy=FakeProxy(codec), preprocessor=network, task=task, settings=settings, fabric=fabric
)
trainer.run(FakeDataset(count=24, sizes=((24, 24), (16, 30))))
with open(f"{sys.argv[1]}/rank{fabric.global_rank}", "w") as file:
    file.write(f"{network.gain.item()!r} {task.filters.sum().item()!r}")
"""


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "run.py"), str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((tmp_path / f"rank{rank}").read_text(encoding="utf-8") for rank in (0, 1))
    assert first == second
    assert float(first.split()[0]) != 0.0
