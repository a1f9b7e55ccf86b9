"""Photographs without labels: the task's own answers on the clean images are the targets."""

import tempfile
from pathlib import Path

from precomp_data import Geometry, UnlabelledFolder
from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

with tempfile.TemporaryDirectory() as folder:
    for index, sample in enumerate(FakeDataset(count=60, labelled=False)[i] for i in range(60)):
        write_image(sample.image, Path(folder) / f"{index:03}.png")  # stands for your photographs

    photographs = UnlabelledFolder(root=folder, geometry=Geometry(crop=24, augment=True))
    codec, task, preprocessor = FakeCodec(), FakeTask(), FakePreprocessor()
    settings = TrainSettings(
        steps=30,
        batch_size=8,
        learning_rate=0.05,
        warmup_steps=3,
        ladder=(5, 30),
        lambdas={5: 2.0, 30: 2.0},
        targets="pseudo-labels",  # the default
        skip_unreadable=True,  # name images that cannot be read, and go on
    )
    proxy = FakeProxy(codec)
    result = Trainer(codec=codec, proxy=proxy, preprocessor=preprocessor, task=task, settings=settings).run(photographs)
    measured = evaluate(
        codec, task, UnlabelledFolder(root=folder), preprocessors=preprocessor,
        settings=EvaluateSettings(ladder=(5, 30), baselines=(), replicates=0, pseudo_labels=True),
    )  # fmt: skip

print({quality: round(value, 3) for quality, value in result.relative.items()}, "of the anchor's objective")
for curve in measured.curves:
    print(curve.label, [f"{point.bpp:.2f} bpp, {point.scores['top1']:.0%} agree" for point in curve.points])
assert result.skipped == ()
assert all(value < 1.0 for value in result.relative.values())
