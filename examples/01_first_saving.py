"""A first saving: train a preprocessor in front of a codec, and measure it with real bitstreams.

The proxies of `precomp_sdk.testing` make this a matter of seconds; every one of them can be replaced by the real
thing, as `precomp quickstart` does with JPEG.
"""

from precomp_sdk.evaluation import EvaluateSettings, evaluate
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask
from precomp_sdk.training import Trainer, TrainSettings

LADDER = (2, 5, 10, 20, 40)

codec = FakeCodec()
proxy = FakeProxy(codec)  # differentiable: brings the codec's gradient
preprocessor = FakePreprocessor()  # starts as the identity
task = FakeTask()  # the network at the receiver

settings = TrainSettings(
    steps=60,
    batch_size=8,
    learning_rate=0.05,
    warmup_steps=5,
    ema_decay=0.9,
    targets="dataset",
    ladder=LADDER,
    lambdas=dict.fromkeys(LADDER, 10.0),  # bits per pixel that a unit of task loss is worth; "auto" calibrates
)
Trainer(codec=codec, proxy=proxy, preprocessor=preprocessor, task=task, settings=settings).run(
    FakeDataset(count=200, size=(32, 32))
)

unseen = FakeDataset(count=400, size=(32, 32), seed=1)
result = evaluate(
    codec,
    task,
    unseen,
    preprocessors=preprocessor,
    settings=EvaluateSettings(ladder=LADDER, baselines=(), replicates=200),
)
print(result.summary())
saving = result.comparison("fake")  # on the task's main metric
print(saving.statement)
assert saving.value_percent is not None
assert saving.value_percent < -10
