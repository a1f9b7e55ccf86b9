import pytest
import torch
from torch.nn import functional

from precomp_sdk import Label, OptionError
from precomp_torchvision import SmallClassifier


def test_expected_error_is_one_minus_the_right_class() -> None:
    task = SmallClassifier(num_classes=3, loss="expected-error", loss_temperature=2.0).eval()
    images = torch.rand(2, 3, 40, 40)
    logits = torch.stack(task.predict(images))
    losses = task.losses(images, [Label(0), Label(2, torch.tensor([0.25, 0.0, 0.75]))])
    right = (logits / 2.0).softmax(dim=1)
    expected = torch.stack([1.0 - right[0, 0], 1.0 - 0.25 * right[1, 0] - 0.75 * right[1, 2]])
    torch.testing.assert_close(losses.detach(), expected)


def test_a_network_in_training_learns_by_cross_entropy() -> None:
    task = SmallClassifier(num_classes=3, loss="expected-error").train()
    images = torch.rand(4, 3, 40, 40)
    targets = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(1)
    losses = task.losses(images, [Label(int(index)) for index in targets])
    expected = functional.cross_entropy(task._logits(images), targets, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_judge_agrees_with_predict_and_losses() -> None:
    task = SmallClassifier(num_classes=3).eval()
    images = torch.rand(3, 3, 40, 40)
    targets = [Label(0), Label(1), Label(2)]
    predictions, losses = task.predict_with_losses(images, targets)
    torch.testing.assert_close(torch.stack(predictions), torch.stack(task.predict(images)))
    torch.testing.assert_close(losses, task.losses(images, targets).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"loss": "expected-eror"}, "Did you mean 'expected-error'"), ({"loss_temperature": 0.0}, "above 0")],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SmallClassifier(num_classes=3, **options)  # type: ignore[arg-type]
