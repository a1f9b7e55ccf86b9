"""Reading text: a target, a loss (CTC) and a scorer of one's own, from drawn digits to the bits that are saved."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional

from precomp_sdk import ModuleTask, Scorer, Target, TaskDataset
from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.testing import FakeCodec, FakePreprocessor, FakeProxy, TaskSettings, check
from precomp_sdk.training import FitTaskSettings, Trainer, TrainSettings, fit_task


@dataclass(frozen=True)
class Text(Target):
    """What is written. An image of it may be resized; cut or mirrored it says something else, so that raises."""

    kind = "text"
    text: str

    def resized(self, before, after):
        """Return the text itself."""
        return self


class TextScorer(Scorer):
    """Words that are read without an error."""

    metrics = ("words",)

    def _measure(self, prediction, target):
        return np.array([prediction == target.text], dtype=np.float64)

    def combine(self, statistics, counts):
        """Return the share of words."""
        return {"words": float(np.average(np.concatenate(statistics), weights=counts))}


network = nn.Sequential(  # a quarter of the height and width, then scores of a blank and ten digits per column
    nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.AdaptiveAvgPool2d((4, None)), nn.Flatten(1, 2), nn.Conv1d(128, 11, 3, padding=1),
)  # fmt: skip


def ctc(scores, targets):
    """Return a loss per image. Source: Graves et al., Connectionist temporal classification, ICML 2006."""
    digits = torch.tensor([int(digit) + 1 for target in targets for digit in target.text], device=scores.device)
    lengths = torch.tensor([len(target.text) for target in targets])
    columns = torch.full((len(scores),), scores.shape[2])
    return functional.ctc_loss(scores.permute(2, 0, 1).log_softmax(dim=2), digits, columns, lengths, reduction="none")


def read(scores):
    """Return the text on the best path: repeats are one digit, blanks none."""
    return ["".join(str(int(i) - 1) for i in torch.unique_consecutive(row.argmax(dim=0)) if i) for row in scores]


def draw(count, seed):
    """Return images of three digits."""
    rng, rows = np.random.default_rng(seed), []
    for text in ("".join(map(str, rng.integers(0, 10, 3))) for _ in range(count)):
        image = Image.new("RGB", (44, 16), tuple(rng.integers(120, 256, 3).tolist()))
        ImageDraw.Draw(image).text((4, rng.integers(0, 5)), " ".join(text), fill=tuple(rng.integers(0, 80, 3).tolist()))
        rows.append((image, Text(text)))
    return TaskDataset.of(rows, name="numbers")


torch.manual_seed(0)
task = ModuleTask(network, loss=ctc, predict=read, scorer=TextScorer(), target_kind=Text.kind, name="reader")
how = FitTaskSettings(epochs=7, batch_size=16, learning_rate=1e-2)
fitted = fit_task(task, draw(500, 0), settings=how, validation=draw(100, 1))
words = TaskSettings(targets=lambda sizes: [Text(str(10 + i)) for i in range(len(sizes))], prediction=lambda t: t.text)
check(task, words)  # the conformance kit, with targets of the new kind

codec, preprocessor, qualities = FakeCodec(), FakePreprocessor(), (3, 10, 30)
settings = TrainSettings(steps=30, batch_size=8, learning_rate=0.05, warmup_steps=3, ema_decay=0.9, ladder=qualities,
                         lambdas=dict.fromkeys(qualities, 1.0), targets="dataset")  # fmt: skip
Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings).run(draw(200, 2))
measuring = EvaluateSettings(ladder=qualities, baselines=(), replicates=100)
result = evaluate(codec, task, draw(100, 3), preprocessors=preprocessor, settings=measuring)
print(result.summary())
assert fitted.scores["words"] > 0.8
assert result.comparison("fake").value_percent is not None
