"""Finding images of the same thing: embeddings, with a target, a loss and a scorer of one's own."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from precomp_sdk import ImageTarget, ModuleTask, Scorer, TaskDataset, to_float
from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, TaskSettings, check
from precomp_sdk.training import FitTaskSettings, Trainer, TrainSettings, fit_task

THINGS = 6


@dataclass(frozen=True)
class Identity(ImageTarget):
    """Which thing an image shows; an image target, since no crop and no flip makes it another."""

    kind = "identity"
    number: int


class RetrievalScorer(Scorer):
    """How often the nearest image of a gallery shows the same thing, and the reciprocal rank of the first one.

    A prediction is an embedding (D,) of length 1.
    """

    metrics = ("recall_at_1", "reciprocal_rank")

    def __init__(self, gallery, numbers):
        self.gallery, self.numbers = gallery, numbers  # (G, D), (G,)

    def _measure(self, prediction, target):
        order = (self.gallery @ prediction.cpu()).argsort(descending=True)
        rank = 1 + int((self.numbers[order] == target.number).nonzero()[0])
        return np.array([rank == 1, 1 / rank])

    def combine(self, statistics, counts):
        """Return the means."""
        means = np.average(np.asarray(statistics), axis=0, weights=counts)
        return dict(zip(self.metrics, means.tolist(), strict=True))


class Embedder(nn.Module):
    """Embeddings of length 1, and one more per thing that the loss draws them to."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 24, 7, padding=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(24, 8))  # fmt: skip
        self.centres = nn.Parameter(torch.randn(THINGS, 8))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings, and how near each is to every thing."""
        embeddings = functional.normalize(self.layers(8 * (images - images.mean(dim=(2, 3), keepdim=True))), dim=1)
        return embeddings, 8 * embeddings @ functional.normalize(self.centres, dim=1).T


def loss(answer, targets):
    """Return a loss per image. Source: Movshovitz-Attias et al., No fuss distance metric learning, ICCV 2017."""
    numbers = torch.tensor([target.number for target in targets], device=answer[1].device)
    return functional.cross_entropy(answer[1], numbers, reduction="none")


def draw(count, seed):
    """Return gratings; those of one direction are the same thing."""
    gratings = FakeDataset(count=count, classes=THINGS, contrast=0.3, seed=seed)
    return TaskDataset.of(gratings, lambda sample: (sample.image, Identity(sample.target.index)), name="things")


torch.manual_seed(0)
task = ModuleTask(Embedder(), loss=loss, predict=lambda answer: list(answer[0]), target_kind=Identity.kind,
                  scorer=RetrievalScorer(torch.zeros(1, 8), torch.zeros(1)), name="embedder")  # fmt: skip
fit_task(task, draw(200, 0), settings=FitTaskSettings(epochs=6, batch_size=8, learning_rate=1e-2))
gallery = [draw(60, 1)[index] for index in range(60)]
task.scorer = RetrievalScorer(torch.stack(task.predict([to_float(sample.image) for sample in gallery])),
                              torch.tensor([sample.target.number for sample in gallery]))  # fmt: skip
scorer = task.scorer
things = TaskSettings(targets=lambda sizes: [Identity(i % THINGS) for i in range(len(sizes))],
                      prediction=lambda target: scorer.gallery[scorer.numbers == target.number][0])  # fmt: skip
check(task, things)  # the conformance kit, with targets of the new kind

codec, preprocessor, qualities = FakeCodec(), FakePreprocessor(), (3, 10, 30)
settings = TrainSettings(steps=20, batch_size=8, learning_rate=0.05, warmup_steps=3, ema_decay=0.9, ladder=qualities,
                         lambdas=dict.fromkeys(qualities, 1.0), targets="dataset")  # fmt: skip
Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings).run(draw(200, 2))
measuring = EvaluateSettings(ladder=qualities, baselines=(), replicates=100)
result = evaluate(codec, task, draw(90, 3), preprocessors=preprocessor, settings=measuring)
print(result.summary())
anchor, ours = ({curve.label: curve for curve in result.curves}[label].points for label in ("anchor", "fake"))
assert ours[0].bpp < anchor[0].bpp
assert ours[-1].scores["recall_at_1"] > 0.9
