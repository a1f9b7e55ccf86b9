"""Detector and segmenter in training and evaluation: a few steps through a codec, and curves with intervals."""

import doctest

import numpy as np
import pytest
import torch

from precomp_sdk import Boxes, EnsembleTask, Mask, TaskDataset, features, module_task, to_uint8
from precomp_sdk.evaluation import EvaluateSettings, compare, measure_curve
from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeProxy
from precomp_sdk.training import Trainer, TrainSettings, load_module, save_module
from precomp_torchvision import Detector, Segmenter


class Blobs(TaskDataset):
    """A bright rectangle on noise, as a box or as a mask; every third image has none."""

    name = "blobs"
    source = "test"

    def __init__(self, kind, count=12):
        self.target_kind = kind
        self.class_names = ("blob",) if kind == "boxes" else ("ground", "blob")
        self._count = count

    def __len__(self):
        return self._count

    def _sample(self, index):
        rng = np.random.default_rng(index)
        image = torch.from_numpy(rng.uniform(0, 0.4, (3, 64, 64))).float()
        x, y, w, h = (int(rng.integers(low, high)) for low, high in ((2, 30), (2, 30), (16, 32), (16, 32)))
        labels = torch.zeros(64, 64, dtype=torch.int64)
        rows = []
        if index % 3:
            image[:, y : y + h, x : x + w] += 0.5
            labels[y : y + h, x : x + w] = 1
            rows.append([x, y, x + w, y + h])
        if self.target_kind == Mask.kind:
            return to_uint8(image), Mask(labels)
        return to_uint8(image), Boxes(
            torch.tensor(rows, dtype=torch.float32).reshape(-1, 4), torch.zeros(len(rows)).long()
        )


def detector(architecture="fcos"):
    torch.manual_seed(0)
    return Detector(
        architecture=architecture, backbone="squeezenet1_1", pyramid_channels=64, num_classes=1, own_threshold=0.0
    ).eval()


def segmenter():
    torch.manual_seed(0)
    return Segmenter(architecture="lraspp", backbone="squeezenet1_1", num_classes=2).eval()


def train(task, data, folder, **options):
    codec, preprocessor = FakeCodec(), FakePreprocessor()
    settings = TrainSettings(
        **{"steps": 2, "batch_size": 4, "ladder": (5.0, 30.0), "lambdas": {5.0: 1.0, 30.0: 1.0}, "warmup_steps": 1,
           "held_out_images": 4, "calibration_images": 4, "learning_rate": 0.05, **options}
    )  # fmt: skip
    trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings)
    trainer.run(data, folder=folder)
    return preprocessor.gain.item()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "kind", "options"),
    [
        (detector, "boxes", {"targets": "dataset"}),
        (detector, "boxes", {"targets": "pseudo-labels", "feature_weight": 0.5, "precision": "bf16-mixed"}),
        (lambda: detector("fasterrcnn"), "boxes", {"targets": "dataset", "precision": "bf16-mixed"}),
        (segmenter, "mask", {"targets": "pseudo-labels", "feature_weight": 0.5, "precision": "bf16-mixed"}),
        (segmenter, "mask", {"targets": "dataset"}),
        (segmenter, "mask", {"targets": "pseudo-labels", "task_weight": 0.0, "feature_weight": 1.0}),
    ],
)
def test_a_preprocessor_is_trained_for_it(make, kind, options, tmp_path):
    assert train(make(), Blobs(kind), tmp_path, **options) != 0.0


def test_a_preprocessor_is_trained_for_two_tasks_without_labels(tmp_path):
    both = EnsembleTask(members={"boxes": detector(), "pixels": segmenter()})
    assert train(both, Blobs("mask"), tmp_path, targets="pseudo-labels") != 0.0


@pytest.mark.parametrize("make", [detector, lambda: detector("fasterrcnn"), segmenter])
def test_a_task_that_training_saved_can_be_loaded(make, tmp_path):
    path, task, image = tmp_path / "task.safetensors", make(), torch.rand(1, 3, 64, 64)
    save_module(path, task, name=task.name, options={}, facts={})
    torch.manual_seed(1)
    other = make()
    for parameter in other.parameters():
        parameter.data.mul_(0.5)
    load_module(path, other, name=task.name)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in task.state_dict().items())
    assert torch.equal(task.features(image)[0], other.features(image)[0])


@pytest.mark.parametrize("pseudo_labels", [False, True])
@pytest.mark.parametrize(("make", "kind", "first"), [(detector, "boxes", "mAP"), (segmenter, "mask", "mIoU")])
def test_curves_with_intervals(make, kind, first, pseudo_labels):
    task, data = make(), Blobs(kind)
    plain = measure_curve(
        FakeCodec(), task, data, settings=EvaluateSettings(ladder=(5, 30, 70), pseudo_labels=pseudo_labels)
    )
    scores = [point.scores[first] for point in plain.curve().points]
    assert len(scores) == 3
    if pseudo_labels:
        assert scores == sorted(scores)  # the milder the codec, the nearer to the answer on the clean image
        assert 0.0 < scores[-1] <= 1.0
        result = compare(plain, [plain], metrics=[first], replicates=50)[0]
        assert result.value_percent == pytest.approx(0.0, abs=1e-6)


def test_examples_in_the_documentation_of_the_package():
    for module in (module_task, features):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
