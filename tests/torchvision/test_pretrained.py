"""The frozen SqueezeNet on real photographs; skipped where they are not."""

import numpy as np
import pytest
import torch
from PIL import Image

from precomp_sdk import Label
from precomp_torchvision import Classifier


@pytest.fixture(scope="module")
def task(shared_data):
    return Classifier(
        architecture="squeezenet1_1",
        weights=shared_data / "weights" / "squeezenet1_1_torchvision_fp16.pth",
        classes=shared_data / "imagenette" / "imagenet_index.json",
    ).eval()


def test_recognizes_photographs(task, shared_data):
    statistics = []
    for index, name in enumerate(task.class_names):
        for path in sorted((shared_data / "imagenette" / "val" / name).iterdir())[:4]:
            with Image.open(path) as photograph:
                pixels = np.asarray(photograph.convert("RGB")).copy()
            image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
            statistics.append(task.scorer.measure(task.predict(image[None])[0], Label(index)))
    assert len(statistics) == 40
    scores = task.scorer.combine(statistics, np.ones(len(statistics)))
    assert scores["top1"] >= 0.9  # 0.964 over all 1000 images
    assert scores["top5"] >= 0.95


def test_fits_its_data_set(task, shared_data):
    task.check_dataset(sorted(folder.name for folder in (shared_data / "imagenette" / "val").iterdir()))
