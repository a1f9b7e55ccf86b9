"""Compare codecs: rate-accuracy curves of anchors, BD-rate with an interval, and the plot's data."""

from precomp_jpeg import JPEGCodec
from precomp_pillow import WebPCodec
from precomp_sdk.evaluation import EvaluateSettings, bd_rate, measure_curve
from precomp_sdk.testing import FakeDataset, FakeTask

images, task = FakeDataset(count=100, size=(64, 64)), FakeTask()
curves = {
    codec.name: measure_curve(codec, task, images, label=codec.name, settings=EvaluateSettings(ladder=ladder)).curve()
    for codec, ladder in ((JPEGCodec(), (3, 6, 10, 15, 25)), (WebPCodec(), (0, 5, 15, 30, 50)))
}
for name, curve in curves.items():
    print(name, [f"{point.bpp:.2f} bpp: {point.scores['top1']:.0%}" for point in curve.points])

comparison = bd_rate(curves["jpeg"], curves["webp"], "top1")
print(comparison.statement)
assert comparison.value_percent is not None
assert comparison.value_percent < 0  # WebP's header is small
