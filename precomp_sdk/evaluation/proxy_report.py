"""How far a proxy's images, bits and gradients can be trusted, measured against the real codec."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precomp_sdk.data import Subset, TaskDataset, spread_places
from precomp_sdk.errors import DatasetError, QualityError
from precomp_sdk.evaluation._batches import load_batches
from precomp_sdk.evaluation.settings import MAX_BATCH_PIXELS, EvaluateProxySettings
from precomp_sdk.evaluation.views import Shown, ShownTable
from precomp_sdk.events import RunFinished, RunStarted, StepDone
from precomp_sdk.images import group_by_size, round_to_8_bit, stack_images
from precomp_sdk.modules import evaluation_mode
from precomp_sdk.observers import Listener, Observer, listening
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.transcode import Transcoder
from precomp_sdk.types import ProxyOutput
from precomp_sdk.validation import check_instance

__all__ = ["GradientCheck", "ProxyPoint", "ProxyReport", "evaluate_proxy"]

_STAGE = "evaluate-proxy"
_FORMAT = "precomp-proxy-report-1"
_LEAST_MSE = 1e-10  # 100 dB: what equal images are given


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """What the real codec does when every image takes a small step down the proxy's gradient.

    Args:
        success: share of the images whose real value fell.
        median_change: median over images of the real value's relative change; below 0 is right.
    """

    success: float
    median_change: float


@dataclass(frozen=True, slots=True)
class ProxyPoint:
    """A proxy at one quality, over all images.

    Args:
        quality: on the codec's scale.
        source_psnr_db: mean PSNR of the source against the codec's image: the trivial proxy.
        proxy_psnr_db: mean PSNR of the proxy's image against the codec's.
        bits_error_median: median over images of ``|proxy bits / real bits - 1|``.
        bits_error_p95: its 95th percentile.
        bits_bias: median of ``proxy bits / real bits - 1``.
        rank_correlation: Spearman's, of proxy and real bits over the images; NaN for fewer than three.
        rate_step: bits after a step down the gradient of the proxy's bits.
        distortion_step: mean squared error of the decoded image to the source, after a step down the gradient of
            the proxy's.
    """

    quality: float
    source_psnr_db: float
    proxy_psnr_db: float
    bits_error_median: float
    bits_error_p95: float
    bits_bias: float
    rank_correlation: float
    rate_step: GradientCheck
    distortion_step: GradientCheck

    @property
    def gain_db(self) -> float:
        """How much closer the proxy's image is than the source."""
        return self.proxy_psnr_db - self.source_psnr_db

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in a row of `ProxyReport.table`."""
        return (
            *(f"{self.quality:g}", f"{self.source_psnr_db:.1f}", f"{self.proxy_psnr_db:.1f}", f"{self.gain_db:+.1f}"),
            *(f"{self.bits_error_median:.1%}", f"{self.bits_error_p95:.1%}", f"{self.bits_bias:+.1%}"),
            f"{self.rank_correlation:.3f}",
            *(f"{check.success:.0%}, {check.median_change:+.1%}" for check in (self.rate_step, self.distortion_step)),
        )


@dataclass(frozen=True, slots=True, repr=False)
class ProxyReport(Shown):
    """A proxy against its codec on images it was not fitted to.

    Args:
        proxy: its name.
        proxy_options: what it was constructed with.
        fitted_to: the version of the codec that it was fitted to; empty where it needs no fitting.
        codec: the codec's name.
        codec_version: of the library that does the work.
        codec_options: what the codec was constructed with.
        quality_name: what the codec's knob is called.
        dataset: where the images come from.
        images: how many.
        step_levels: root mean square of the step of the gradient checks, in 8-bit levels.
        ladder_rank_correlation: Spearman's, of proxy and real bits over the ladder; mean over images.
        points: one per quality.
        seconds: wall time.
    """

    proxy: str
    proxy_options: Mapping[str, object]
    fitted_to: str
    codec: str
    codec_version: str
    codec_options: Mapping[str, object]
    quality_name: str
    dataset: str
    images: int
    step_levels: float
    ladder_rank_correlation: float
    points: tuple[ProxyPoint, ...]
    seconds: float

    @property
    def table(self) -> ShownTable:
        """A row per quality."""
        head = (
            *(self.quality_name, "source, dB", "proxy, dB", "gain, dB"),
            *("bits error, median", "95th", "bits bias", "rank over images"),
            *("rate step: falls, by", "distortion step: falls, by"),
        )
        return ShownTable(head, [point.cells for point in self.points], texts=0)

    def _shown(self) -> Iterator[str | ShownTable]:
        fitted = f", fitted to {self.fitted_to}" if self.fitted_to not in ("", self.codec_version) else ""
        yield (
            f"{self.proxy}{fitted} against {self.codec} ({self.codec_version})\n"
            f"{self.dataset}: {self.images} images, {self.seconds:.0f} s"
        )
        yield self.table
        yield f"rank correlation of bits over the ladder: {self.ladder_rank_correlation:.3f}"

    def json(self) -> str:
        """Return everything as JSON; what is not a number (a correlation of two images) is null."""
        record = {"format": _FORMAT, **dataclasses.asdict(self)}
        text = json.dumps(record, default=str)  # NaN is written as such ...
        return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=1, ensure_ascii=False) + "\n"


def evaluate_proxy(
    proxy: ProxyCodec,
    dataset: TaskDataset,
    *,
    settings: EvaluateProxySettings | None = None,
    observer: Listener = "auto",
) -> ProxyReport:
    """Measure a proxy against its codec: images, bits, ranking, and where its gradients lead.

    The **gradient check** moves each image against the gradient of the proxy's bits (and, separately, of the mean
    squared error of its decoded image to the source), by a step of ``step_levels`` 8-bit levels root mean square,
    rounds it to 8 bits and asks the real codec whether its bits (its error) fell.

    Args:
        proxy: a fitted one, where it is to work.
        dataset: images it was not fitted to; labels are not used.
        settings: every choice.
        observer: called with every event; see `precomp_sdk.observers.listening`.

    Raises:
        DatasetError: there is no image.
        QualityError: a quality is off the scale, or named twice.
        NotFittedError: the proxy was not fitted.
    """
    settings = settings or EvaluateProxySettings()
    check_instance(proxy, ProxyCodec, "evaluate_proxy, proxy")
    check_instance(dataset, TaskDataset, "evaluate_proxy, dataset")
    qualities = proxy.quality_scale.ladder_of(settings.ladder)
    if len(set(qualities)) != len(qualities):
        raise QualityError(
            where="evaluate_proxy", expected="different qualities", got=repr(qualities), remedy="Name each once."
        )
    if not len(dataset):
        raise _empty(dataset, "none")
    started = time.perf_counter()
    with listening(observer) as notify:
        measured = _measure_all(proxy, dataset, qualities, settings, notify)
        seconds = time.perf_counter() - started
        notify(RunFinished(_STAGE, seconds))
    return ProxyReport(
        proxy=proxy.name,
        proxy_options=dict(proxy.options),
        fitted_to=proxy.fitted_to,
        codec=proxy.codec.name,
        codec_version=proxy.codec.version,
        codec_options=dict(proxy.codec.coding_options),
        quality_name=proxy.quality_scale.name,
        dataset=dataset.name,
        images=len(next(iter(measured.values())).bits),
        step_levels=settings.step_levels,
        ladder_rank_correlation=_ladder_correlation(list(measured.values())),
        points=tuple(item.point(quality) for quality, item in measured.items()),
        seconds=seconds,
    )


def _measure_all(
    proxy: ProxyCodec,
    dataset: TaskDataset,
    qualities: Sequence[float],
    settings: EvaluateProxySettings,
    notify: Observer,
) -> dict[float, "_Measured"]:
    """Return one number per image, by quality."""
    chosen = Subset(dataset, spread_places(len(dataset), settings.images))
    where = proxy.fitted.device
    total = len(chosen) * len(qualities)
    notify(RunStarted(_STAGE, total, {"proxy": proxy.name, "codec": proxy.codec.name}))
    rows: dict[float, list[_Measured]] = {quality: [] for quality in qualities}
    done = 0
    with Transcoder(proxy.codec, workers=settings.workers) as transcoder, evaluation_mode(proxy), torch.no_grad():
        for loaded in load_batches(
            chosen, settings.batch_size, MAX_BATCH_PIXELS, skip_unreadable=settings.skip_unreadable
        ):
            images = [sample.image for sample in loaded.samples]
            for places in group_by_size(images, settings.batch_size):
                source = stack_images([images[place] for place in places]).to(where)
                for quality in qualities:
                    rows[quality].append(_measure(proxy, transcoder, source, quality, settings.step_levels))
            done += loaded.count * len(qualities)
            notify(StepDone(_STAGE, done, total, {}))
    measured = {quality: _Measured.joined(parts) for quality, parts in rows.items() if parts}
    if not measured:
        raise _empty(dataset, "none that can be read")
    return measured


def _empty(dataset: TaskDataset, got: str) -> DatasetError:
    return DatasetError(
        where=f"evaluate_proxy on {dataset.name!r}",
        expected="one image or more",
        got=got,
        remedy="Look at the data set's folder and options.",
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """One number per image, of one quality; each (N,)."""

    bits: NDArray[np.float64]
    proxy_bits: NDArray[np.float64]
    source_psnrs_db: NDArray[np.float64]
    proxy_psnrs_db: NDArray[np.float64]
    rate_changes: NDArray[np.float64]
    distortion_changes: NDArray[np.float64]

    @staticmethod
    def joined(parts: Sequence["_Measured"]) -> "_Measured":
        names = [field.name for field in dataclasses.fields(_Measured)]
        return _Measured(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def point(self, quality: float) -> ProxyPoint:
        ratios = self.proxy_bits / self.bits - 1.0
        return ProxyPoint(
            quality=quality,
            source_psnr_db=float(self.source_psnrs_db.mean()),
            proxy_psnr_db=float(self.proxy_psnrs_db.mean()),
            bits_error_median=float(np.median(np.abs(ratios))),
            bits_error_p95=float(np.quantile(np.abs(ratios), 0.95)),
            bits_bias=float(np.median(ratios)),
            rank_correlation=_spearman(self.proxy_bits, self.bits),
            rate_step=_gradient_check(self.rate_changes),
            distortion_step=_gradient_check(self.distortion_changes),
        )


def _measure(
    proxy: ProxyCodec, transcoder: Transcoder, source: Tensor, quality: float, step_levels: float
) -> _Measured:
    qualities = [quality] * len(source)
    pending = transcoder.submit(source, qualities)
    images = source.clone().requires_grad_(True)
    with torch.enable_grad():
        output: ProxyOutput = proxy(images, qualities)
        errors = _mses(output.images, source)
        (rate_gradient,) = torch.autograd.grad(torch.log(output.bits.clamp_min(1.0)).sum(), images, retain_graph=True)
        (error_gradient,) = torch.autograd.grad(errors.sum(), images)
    moved = [
        transcoder.submit(_stepped(source, gradient, step_levels), qualities)
        for gradient in (rate_gradient, error_gradient)
    ]
    real_images, real_bits = pending.tensors(source)
    (_, cheaper_bits), (closer_images, _) = (job.tensors(source) for job in moved)
    before, after = _mses(real_images, source), _mses(closer_images, source)
    return _Measured(
        bits=_array(real_bits),
        proxy_bits=_array(output.bits),
        source_psnrs_db=_array(_psnrs_db(source, real_images)),
        proxy_psnrs_db=_array(_psnrs_db(output.images, real_images)),
        rate_changes=_array(cheaper_bits / real_bits - 1.0),
        distortion_changes=_array(after / before.clamp_min(_LEAST_MSE) - 1.0),
    )


def _stepped(source: Tensor, gradient: Tensor, step_levels: float) -> Tensor:
    """Return the images after a step of given root mean square down the gradient, rounded to 8 bits."""
    norms = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return round_to_8_bit(source - step_levels / 255.0 * gradient / norms.clamp_min(torch.finfo(norms.dtype).tiny))


def _mses(images: Tensor, others: Tensor) -> Tensor:
    return (images - others).square().mean(dim=(1, 2, 3))


def _psnrs_db(images: Tensor, others: Tensor) -> Tensor:
    return -10.0 * torch.log10(_mses(images, others).clamp_min(_LEAST_MSE))


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu(), dtype=np.float64)


def _gradient_check(changes: NDArray[np.float64]) -> GradientCheck:
    return GradientCheck(success=float((changes < 0).mean()), median_change=float(np.median(changes)))


def _spearman(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    if len(ours) < 3 or len(set(ours)) < 2 or len(set(theirs)) < 2:
        return float("nan")
    from scipy.stats import spearmanr  # takes half a second to import

    return float(spearmanr(ours, theirs).statistic)


def _ladder_correlation(measured: Sequence[_Measured]) -> float:
    """Return the mean over images of the rank correlation over the ladder."""
    ours, theirs = (np.stack([getattr(item, name) for item in measured]) for name in ("proxy_bits", "bits"))
    rows = [_spearman(ours[:, image], theirs[:, image]) for image in range(ours.shape[1])]
    known = [row for row in rows if not np.isnan(row)]
    return float(np.mean(known)) if known else float("nan")
