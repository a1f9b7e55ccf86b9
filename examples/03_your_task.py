"""Your task: wrap a network that you have, say its loss and what it predicts, and train a preprocessor for it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import Label, LabelScorer, Target, TaskModel
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy
from precomp_sdk.training import FitTaskSettings, Trainer, TrainSettings, fit_task

network = nn.Sequential(  # any module of yours
    nn.Conv2d(3, 16, 7, padding=3), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
)  # fmt: skip


class MyTask(TaskModel):
    """The network, with cross entropy per image and top-1 accuracy."""

    name = "my-task"
    source = "this example"
    target_kind = Label.kind
    scorer = LabelScorer()

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def _losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        wanted = torch.tensor([target.index for target in targets if isinstance(target, Label)], device=images.device)
        return functional.cross_entropy(self.network(8.0 * (images - 0.5)), wanted, reduction="none")

    def _predict(self, images: Tensor) -> Sequence[Tensor]:
        return list(self.network(8.0 * (images - 0.5)))


torch.manual_seed(0)
task = MyTask(network)
images, unseen = FakeDataset(count=200, contrast=0.3), FakeDataset(count=60, contrast=0.3, seed=1)
fitted = fit_task(task, images, settings=FitTaskSettings(epochs=8, batch_size=8, learning_rate=5e-3), validation=unseen)
print(f"top-1 without a codec: {fitted.scores['top1']:.0%}")

codec = FakeCodec()
settings = TrainSettings(
    steps=30, batch_size=8, learning_rate=0.05, warmup_steps=3, ema_decay=0.9, ladder=(5, 30), lambdas={5: 2, 30: 2},
    targets="dataset",
)  # fmt: skip
trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=FakePreprocessor(), task=task, settings=settings)
result = trainer.run(images)
print({quality: round(value, 3) for quality, value in result.relative.items()}, "of the anchor's objective")
assert fitted.scores["top1"] > 0.5
assert all(value < 1.0 for value in result.relative.values())
