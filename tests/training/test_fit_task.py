import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from precomp_sdk import (
    Boxes,
    DatasetError,
    Label,
    LabelScorer,
    Mask,
    NonFiniteError,
    Notice,
    OptionError,
    RunFinished,
    RunStarted,
    Scorer,
    StepDone,
    TargetError,
    TaskDataset,
    TaskModel,
)
from precomp_sdk.training import FitTaskSettings
from precomp_sdk.training.task_fitting import fit_task, score_task


class Shades(TaskDataset):
    """Two classes: dark and bright."""

    name = "shades"
    source = "test"
    target_kind = Label.kind
    class_names = ("dark", "bright")

    def __init__(self, count=12, broken=(), unequal=False):
        self.count, self.broken, self.unequal = count, broken, unequal

    def __len__(self):
        return self.count

    def _sample(self, index):
        if index in self.broken:
            raise DatasetError(where=str(index), expected="an image", got="rubbish", remedy="Repair it.")
        shade = 60 + 130 * (index % 2) + index
        return torch.full((3, 4, 4 + index % 3 * self.unequal), shade, dtype=torch.uint8), Label(index % 2)


class Unlabelled(Shades):
    target_kind = None

    def _sample(self, index):
        return super()._sample(index)[0], None


class Tiny(TaskModel):
    name = "tiny"
    source = "test"
    target_kind = Label.kind
    scorer = LabelScorer()
    class_names = ("dark", "bright")

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.sizes = []

    def _logits(self, images):
        self.sizes.append(tuple(images.shape))
        features = images.mean((2, 3)) - 0.5
        return self.net(features if len(features) > 1 else features.repeat(2, 1))[: len(images)]

    def _losses(self, images, targets):
        wanted = torch.tensor([target.index for target in targets])
        return nn.functional.cross_entropy(self._logits(images), wanted, reduction="none")

    def _predict(self, images):
        return list(self._logits(images))

    def check_dataset(self, class_names):
        if tuple(class_names) != self.class_names:
            raise TargetError(where="tiny", expected="dark, bright", got=str(class_names), remedy="-")


def make_tiny():
    torch.manual_seed(3)
    return Tiny()


FIT = FitTaskSettings(epochs=12, batch_size=4, learning_rate=0.03, workers=2)


def test_learns_and_reports():
    task, events = make_tiny(), []
    before = score_task(task, Shades(20))["top1"]
    result = fit_task(task, Shades(), validation=Shades(20), observer=events.append, settings=FIT)
    assert before < 0.9
    assert result.scores == {"top1": 1.0, "top5": 1.0}
    assert result.loss < 0.2
    assert result.steps == 36
    assert result.seconds > 0
    assert result.skipped == ()
    assert isinstance(events[0], RunStarted)
    assert (events[0].stage, events[0].total_steps, events[0].settings["batch_size"]) == ("fit-task", 36, 4)
    steps = events[1:-1]
    assert all(isinstance(event, StepDone) and event.total_steps == 36 for event in steps)
    assert [event.step for event in steps] == list(range(1, 37))
    assert np.mean([event.scalars["loss"] for event in steps[-3:]]) == pytest.approx(result.loss)
    assert isinstance(events[-1], RunFinished)
    assert {event.stage for event in events} == {"fit-task"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.loss = 0.0
    with pytest.raises(TypeError):
        result.scores["top1"] = 0.0


def test_learning_rate_rises_and_falls():
    events = []
    fit_task(make_tiny(), Shades(), observer=events.append, settings=replace(FIT, epochs=20))
    rates = [event.scalars["learning_rate"] for event in events[1:-1]]
    assert rates[0] == pytest.approx(0.03 / 6)
    assert max(rates) == rates[5] == pytest.approx(0.03)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[-1] < 0.0001


def test_equal_runs_give_equal_networks_and_leave_the_random_state_alone():
    first, second = make_tiny(), make_tiny()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fit_task(first, Shades(), settings=replace(FIT, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    fit_task(second, Shades(), settings=replace(FIT, seed=5))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    third = make_tiny()
    fit_task(third, Shades(), settings=replace(FIT, seed=6))
    assert not torch.equal(third.net[0].weight, first.net[0].weight)


def test_leaves_evaluation_mode_and_no_gradients_and_respects_frozen_parameters():
    task = make_tiny()
    task.net[0].requires_grad_(False)
    frozen = task.net[0].weight.clone()
    fit_task(task, Shades(), settings=FIT)
    assert not any(module.training for module in task.modules())
    assert torch.equal(task.net[0].weight, frozen)
    assert not task.net[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in task.parameters())


def test_images_of_one_size_are_one_batch_and_others_are_grouped():
    task = make_tiny()
    fit_task(task, Shades(), settings=FIT)
    assert set(task.sizes) == {(4, 3, 4, 4)}
    task = make_tiny()
    result = fit_task(task, Shades(unequal=True), validation=Shades(20, unequal=True), settings=FIT)
    assert {size[3] for size in task.sizes} == {4, 5, 6}
    assert result.scores["top1"] == 1.0


def test_a_set_smaller_than_a_batch_is_one_batch():
    task = make_tiny()
    assert fit_task(task, Shades(6), settings=replace(FIT, batch_size=100)).steps == 12
    assert task.sizes[0][0] == 6


def test_only_matrices_decay():
    class Still(Tiny):
        def _losses(self, images, targets):
            return 0.0 * super()._losses(images, targets)

    torch.manual_seed(0)
    task = Still()
    before = {name: value.clone() for name, value in task.named_parameters()}
    fit_task(task, Shades(), settings=replace(FIT, weight_decay=1.0))
    for name, value in task.named_parameters():
        if value.ndim > 1:
            assert value.norm() < 0.9 * before[name].norm(), name
        else:
            assert torch.equal(value, before[name]), name


def test_any_kind_of_target():
    class Corners(Shades):
        target_kind = Boxes.kind
        class_names = ()

        def _sample(self, index):
            image, _ = super()._sample(index)
            box = torch.tensor([[0.0, 0.0, 4.0, float(image.float().mean()) / 64]])
            return image, Boxes(box, torch.zeros(1, dtype=torch.int64))

    class HeightScorer(Scorer):
        metrics = ("closeness",)

        def _measure(self, prediction, target):
            return np.array(-abs(float(prediction) - float(target.boxes[0, 3])))

        def combine(self, statistics, counts):
            return {"closeness": float(np.average(np.asarray(statistics), weights=counts))}

    class Heights(TaskModel):
        name = "heights"
        source = "test"
        target_kind = Boxes.kind
        scorer = HeightScorer()

        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)

        def _losses(self, images, targets):
            wanted = torch.stack([target.boxes[0, 3] for target in targets])
            return (torch.stack(list(self._predict(images))) - wanted) ** 2

        def _predict(self, images):
            return list(self.line(images.mean((1, 2, 3))[:, None])[:, 0])

    result = fit_task(Heights(), Corners(), validation=Corners(9), settings=replace(FIT, epochs=30, learning_rate=0.4))
    assert result.scores["closeness"] > -0.1


def _after_step(task, limit):
    kept = {}

    def observer(event):
        if isinstance(event, StepDone) and event.step == limit:
            kept.update({name: value.detach().clone() for name, value in task.named_parameters()})

    return kept, observer


def test_nan_in_the_loss_names_step_term_and_image():
    class Breaks(Tiny):
        def _losses(self, images, targets):
            losses = super()._losses(images, targets)
            return losses / 0.0 if len(self.sizes) == 3 else losses

    torch.manual_seed(0)
    task = Breaks()
    kept, observer = _after_step(task, 2)
    with pytest.raises(NonFiniteError, match=r"fit-task, step 3: expected a finite loss; got inf \(images \d+, "):
        fit_task(task, Shades(), observer=observer, settings=FIT)
    assert len(kept) > 0
    assert all(torch.equal(value, kept[name]) for name, value in task.named_parameters())
    assert not task.training


def test_nan_in_the_gradient_names_step_and_term():
    class Breaks(Tiny):
        def _losses(self, images, targets):
            losses = super()._losses(images, targets)
            return losses + (0.0 * losses).sqrt() if len(self.sizes) == 2 else losses

    torch.manual_seed(0)
    task = Breaks()
    kept, observer = _after_step(task, 1)
    with pytest.raises(NonFiniteError, match="fit-task, step 2: expected a finite gradient norm; got nan"):
        fit_task(task, Shades(), observer=observer, settings=FIT)
    assert len(kept) > 0
    assert all(torch.equal(value, kept[name]) for name, value in task.named_parameters())


def test_unreadable_images():
    with pytest.raises(DatasetError, match="rubbish"):
        fit_task(make_tiny(), Shades(broken={5}), settings=FIT)
    events = []
    result = fit_task(
        make_tiny(),
        Shades(broken={5}),
        validation=Shades(8, broken={2}),
        settings=replace(FIT, skip_unreadable=True),
        observer=events.append,
    )
    assert [item.key for item in result.skipped] == ["5", "2"]
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == [
        "2 images were left out, unreadable: 5, 2 (data set 'shades', sample '5': 5: expected an image; got rubbish. "
        "Repair it.)"
    ]


def test_a_task_without_parameters_is_scored():
    class Fixed(Tiny):
        def __init__(self):
            super().__init__()
            del self.net

        def _logits(self, images):
            means = images.mean((1, 2, 3))
            return torch.stack([0.5 - means, means - 0.5], dim=1)

    assert score_task(Fixed(), Shades())["top1"] == 1.0


def test_steps_count_what_was_taken():
    result = fit_task(make_tiny(), Shades(10, broken={5, 6}), settings=replace(FIT, batch_size=1, skip_unreadable=True))
    assert result.steps == 12 * 8
    assert np.isfinite(result.loss)


@pytest.mark.parametrize("where", ["train", "validation"])
@pytest.mark.parametrize("wrong", ["kind", "none", "classes"])
def test_data_sets_that_do_not_fit(where, wrong):
    class Other(Shades):
        target_kind = Mask.kind
        class_names = ()

    class Renamed(Shades):
        class_names = ("one", "two", "three")

    bad, message = {
        "kind": (Other(), "targets of kind 'label'; got targets of kind 'mask'"),
        "none": (Unlabelled(), "targets of kind 'label'; got no targets"),
        "classes": (Renamed(), "dark, bright"),
    }[wrong]
    sets = (bad, Shades()) if where == "train" else (Shades(), bad)
    task = make_tiny()
    with pytest.raises(TargetError, match=message):
        fit_task(task, sets[0], validation=sets[1], settings=FIT)
    assert task.sizes == []
    with pytest.raises(TargetError, match=message):
        score_task(task, bad)


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("clip_norm", -1.0)],
)
def test_wrong_options(option, value):
    with pytest.raises(OptionError, match=f"option '{option}'"):
        fit_task(make_tiny(), Shades(), settings=replace(FIT, **{option: value}))


def test_nothing_to_train():
    with pytest.raises(OptionError, match="parameters to train; got none"):
        fit_task(make_tiny().requires_grad_(False), Shades(), settings=FIT)


def test_score_runs_in_evaluation_mode_and_restores_the_modes():
    task = make_tiny()
    fit_task(task, Shades(), settings=FIT)
    task.train()
    task.net[1].eval()
    running = task.net[1].running_mean.clone()
    scores = score_task(task, Shades(7), batch_size=3)
    assert scores["top1"] == 1.0
    assert (task.training, task.net[1].training, task.net[3].training) == (True, False, True)
    assert torch.equal(task.net[1].running_mean, running)
    assert score_task(task, Shades(7, broken={0}), skip_unreadable=True)["top1"] == 1.0
