"""Several qualities in one model: the preprocessor is told how strong the compression will be, per image."""

import torch

from precomp_sdk import to_float
from precomp_sdk.deploy import Compressor
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

LADDER = (2, 10, 40, 80)
codec, preprocessor = FakeCodec(), FakePreprocessor()
settings = TrainSettings(
    steps=40, batch_size=8, learning_rate=0.05, warmup_steps=4, ladder=LADDER, lambdas=dict.fromkeys(LADDER, 2.0)
)  # each image of a batch draws its own quality from the ladder
images = FakeDataset(count=100)
trainer = Trainer(codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=FakeTask(), settings=settings)
trainer.run(images)

sender = Compressor(codec, preprocessor, ladder=LADDER)
image = images[0].image
changes = []
for quality in LADDER:
    change = (to_float(sender.preprocess(image, quality)) - to_float(image)).abs().mean()
    changes.append(float(change))
    print(f"quality {quality}: {8 * len(sender.compress(image, quality))} bits, changed by {255 * change:.1f} levels")
assert changes == sorted(changes, reverse=True)  # the stronger the compression, the more it smooths

mixed = preprocessor(to_float(torch.stack([image] * 4)), [codec.quality_scale.strength(q) for q in LADDER])
assert mixed.shape == (4, *image.shape)  # one batch, four strengths
