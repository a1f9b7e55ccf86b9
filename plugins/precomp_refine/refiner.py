"""The refiner: a preprocessor without weights that works on each image anew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor, nn

from precomp_refine._judge import Judge
from precomp_refine._lambda_table import LambdaTable, check_table, measure_points
from precomp_refine._loop import BatchRefiner
from precomp_refine._settings import WHERE, Settings
from precomp_refine.records import Refined, Refinement, RefinementCost
from precomp_sdk import (
    Channel,
    CheckpointError,
    Codec,
    Label,
    ModuleReference,
    NotFittedError,
    OptionError,
    Preprocessor,
    ProxyCodec,
    ResolutionCurve,
    Target,
    TargetError,
    TaskDataset,
    TaskModel,
    Transcoder,
    check_batch,
    check_proxy_codec,
    coded_size,
    device_of,
    evaluation_mode,
    group_equal,
    quality_tensor,
    round_to_8_bit,
    to_float,
)

__all__ = ["Refiner"]


class Refiner(Preprocessor):
    """Takes gradient steps on the image itself, and keeps the best by the real codec and the task networks.

    ::

        image ─▶ step ─┬▶ codec ▶ decoded, bits ─▶ task networks ─▶ bpp + lambda * loss ─▶ the best so far is kept
                    ▲    └▶ proxy ······ gradient ······ ◀ ················ ┘
                    └────────┘

    The target is what the task networks say of the untouched image: no labels. The first candidate is the untouched
    image, so by its own measure no image is ever worse than through the anchor (at the resolution it is coded
    at). What is sent is an ordinary
    file of the codec. Nothing is trained; ``lambda`` is a table, or is measured once by `prepare`.

    The gain may be particular to the networks in the loop: for others, take several of them, match features, bound the
    change.

    Shapes and units:
        images: (N, 3, H, W) in [0, 1], rounded to 8 bits first. strengths: (N,), turned back into qualities.

    Args:
        codec: the real codec.
        proxy: its proxy, for the gradient, fitted where it needs fitting.
        task: the task network; it has to offer its pseudo-labels, and features where they are matched.
        steps: gradient steps per image.
        step_levels: how far a sample moves in one step of Adam, in 8-bit levels.
        start: a preprocessor whose output is where to begin; default: the untouched image.
        resolutions: at what share of height and width images are coded: pairs of strength and factor, see
            `precomp_sdk.ResolutionCurve`. Default: as ``start`` asks for. What is never done worse than is then the
            anchor at that resolution.
        others: further task networks to refine against at the same time.
        shares: of ``task`` and the others in the objective, scaled to sum 1; default: equal ones.
        lambdas: ``"auto"`` to measure them, or a table from quality to bits per pixel per unit of task loss, which is
            interpolated.
        lambda_scale: factor on every lambda.
        task_weight: factor on the task loss.
        feature_weight: factor on the distance of features, in units in which the anchor's equals its task loss.
        max_change: most that a sample may change, in 8-bit levels.
        min_psnr_db: least PSNR of what is sent to the untouched image.
        shift_px: draw a shift of up to so many pixels of the decoded image in each step, with its target.
        scale: draw a scaling by up to this share up or down, likewise.
        flip: mirror half of the decoded images, likewise.
        check_every: run the real codec on every so many steps; its image and bits are then the values in the
            gradient too. In between, values are the proxy's.
        patience: stop an image after so many checks in a row without a gain.
        budget_ms: stop when so many milliseconds per image are spent; results then depend on the machine.
        when_nothing: what to do with an image in which no network finds anything: ``"untouched"`` leaves it untouched,
            ``"refine"`` takes finding nothing for the target.
        batch_size: images that are refined together.
        calibration_images: how many `prepare` measures lambda on.
        seed: of the transformations.

    Raises:
        OptionError: an option is out of its range, or the proxy is of another codec than ``codec``.

    Source: after adversarial examples by projected gradients (arXiv 1706.06083), with the opposite aim.
    """

    name = "refine"
    source = "this project; Adam: arXiv 1412.6980"
    requires = ("codec", "proxy", "task")
    trainable = False

    def __init__(
        self,
        codec: Codec,
        proxy: ProxyCodec,
        task: TaskModel,
        *,
        steps: int = 12,
        step_levels: float = 3.0,
        start: Preprocessor | None = None,
        resolutions: Sequence[Sequence[float]] = (),
        others: Sequence[TaskModel] = (),
        shares: Sequence[float] | None = None,
        lambdas: Literal["auto"] | Mapping[float, float] = "auto",
        lambda_scale: float = 1.0,
        task_weight: float = 1.0,
        feature_weight: float = 0.0,
        max_change: int | None = None,
        min_psnr_db: float | None = None,
        shift_px: int = 0,
        scale: float = 0.0,
        flip: bool = False,
        check_every: int = 1,
        patience: int = 6,
        budget_ms: float | None = None,
        when_nothing: str = "untouched",
        batch_size: int = 16,
        calibration_images: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._settings = Settings(
            steps=steps,
            step_levels=step_levels,
            task_weight=task_weight,
            feature_weight=feature_weight,
            max_change=max_change,
            min_psnr_db=min_psnr_db,
            shift_px=shift_px,
            scale=scale,
            flip=flip,
            check_every=check_every,
            patience=patience,
            budget_ms=budget_ms,
            when_nothing=when_nothing,
            batch_size=batch_size,
            seed=seed,
        )
        check_proxy_codec(proxy, codec, WHERE)
        self._codec = codec
        self._proxy = ModuleReference(proxy)
        self._start = None if start is None else ModuleReference(start)
        self._resolutions = ResolutionCurve(resolutions)
        self._shares = [1.0] * (1 + len(others)) if shares is None else list(shares)
        if len(self._shares) != 1 + len(others) or not all(math.isfinite(s) and s > 0 for s in self._shares):
            expected = f"{1 + len(others)} numbers above 0, one per task network"
            raise OptionError.number(WHERE, "shares", expected, self._shares)
        for option, value in (("lambda_scale", lambda_scale), ("calibration_images", calibration_images)):
            if not (math.isfinite(value) and value > 0):
                raise OptionError.number(WHERE, option, "a number above 0", value)
        self._judge = Judge(
            (task, *others),
            [share / sum(self._shares) for share in self._shares],
            task_weight=task_weight,
            feature_weight=feature_weight,
        )
        self._lambdas, self._lambda_scale = lambdas, lambda_scale
        self._calibration_images = calibration_images
        self._prices: LambdaTable | None = None
        if lambdas != "auto":
            check_table(lambdas)
            if not feature_weight:
                self._prices = LambdaTable.of_table(codec.quality_scale, lambdas, lambda_scale, 1 + len(others))
        self._cost = RefinementCost()

    @property
    def codec(self) -> Codec:
        """The real codec."""
        return self._codec

    @property
    def tasks(self) -> tuple[TaskModel, ...]:
        """The task networks in the loop."""
        return self._judge.tasks

    @property
    def start(self) -> Preprocessor | None:
        """Where refinement begins; None for the untouched image."""
        return None if self._start is None else self._start.module

    @property
    def cost(self) -> RefinementCost:
        """What all calls so far took, since `reset_cost`."""
        return self._cost

    def reset_cost(self) -> None:
        """Count from zero again."""
        self._cost = RefinementCost()

    def resolution(self, strength: float) -> float:
        """Return the factor of ``resolutions``, or of ``start`` where none are given."""
        if self._resolutions.points or self.start is None:
            return self._resolutions.at(strength)
        return self.start.resolution(strength)

    def prepare(self, images: TaskDataset, ladder: Sequence[float] | None = None) -> None:
        """Measure lambda at every quality of the ladder, and what a feature distance is worth, on some images.

        Nothing is measured where a table of lambdas says everything, or where it was measured before.

        Args:
            images: without need of labels; not those that are to be scored, nor ones the networks have memorised.
            ladder: two or more qualities; between them lambda is interpolated. Default: the scale's ladder.

        Raises:
            CalibrationError: the anchor's task loss does not fall as the rate grows.
        """
        if self._prices is not None:
            return
        codec = self._codec
        qualities = codec.quality_scale.ladder_of(ladder)
        if self._lambdas != "auto":
            known = LambdaTable.of_table(codec.quality_scale, self._lambdas, 1.0, 1)
            rows = known.at(qualities, torch.zeros((), dtype=torch.float64)).trade_offs[:, 0].tolist()
            lambdas: Literal["auto"] | Mapping[float, float] = dict(zip(qualities, rows, strict=True))
        else:
            lambdas = "auto"
        with Transcoder(codec) as transcoder, evaluation_mode(*self._judge.tasks), torch.no_grad():
            points = measure_points(
                transcoder,
                self._judge.tasks,
                images,
                qualities,
                lambdas=lambdas,
                lambda_scale=self._lambda_scale,
                features=self._settings.feature_weight > 0,
                count=self._calibration_images,
                device=self._device(),
            )
        self._prices = LambdaTable.of_points(codec.quality_scale, points)

    @property
    def options(self) -> Mapping[str, Any]:
        """All but those that are components, ``start`` and ``others``."""
        lambdas = self._lambdas
        return {
            **asdict(self._settings),
            "resolutions": self._resolutions.plain(),
            "shares": self._shares,
            "lambdas": lambdas if lambdas == "auto" else {f"{quality:g}": value for quality, value in lambdas.items()},
            "lambda_scale": self._lambda_scale,
            "calibration_images": self._calibration_images,
        }

    def get_extra_state(self) -> Tensor:
        """Return what `prepare` measured, for a weights file; empty where nothing is known yet."""
        return torch.zeros(0) if self._prices is None else self._prices.as_tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Take what `prepare` measured on another day.

        Raises:
            CheckpointError: it is for another number of task networks.
        """
        if not state.numel():
            return
        if len(state) != 1 + 2 * len(self.tasks):
            raise CheckpointError(
                where="'refine'",
                expected=f"lambdas for {len(self.tasks)} task networks, as it was constructed with",
                got=f"{len(state)} rows, for {(len(state) - 1) // 2}",
                remedy="Prepare it again, with the networks it has now.",
            )
        self._prices = LambdaTable(self.codec.quality_scale, state)

    def refine(
        self,
        images: Tensor | Sequence[Tensor],
        qualities: Tensor | Sequence[float] | float,
        *,
        targets: Sequence[Target] | None = None,
    ) -> Refinement:
        """Refine images of any sizes.

        Args:
            images: a float batch (N, 3, H, W) in [0, 1], or N uint8 images (3, H, W).
            qualities: on the codec's scale, one for all images or one for each.
            targets: what to refine towards instead of the networks' own answers, one per image.

        Returns:
            The refined images, in order, with what each gained and what all cost.

        Raises:
            ImageError: an image has the wrong shape, dtype or a NaN.
            QualityError: a quality is off the scale.
            NotFittedError: lambda is not known yet, or the proxy was not fitted.
            TargetError: the targets do not fit the task.
            OptionError: a task network does not offer its pseudo-labels, or features where they are matched; or targets
                that transformations would have to change are given.
            ContractError: a task network or the proxy has no gradient.
            NonFiniteError: the untouched image's objective is not finite.
        """
        items = list(check_batch(images, "'refine'")) if isinstance(images, Tensor) else [to_float(i) for i in images]
        codec, proxy, start = self._codec, self._proxy.module, self.start
        values = quality_tensor(qualities, codec.quality_scale, len(items)).tolist()
        if targets is not None and self._settings.transforms and self._judge.tasks[0].target_kind != Label.kind:
            raise OptionError(
                where=f"{WHERE}, options 'shift_px', 'scale' and 'flip'",
                expected="no transformations, or targets of the networks' own",
                got="targets that were given",
                remedy="Leave out the transformations, or the targets.",
            )
        if targets is not None and len(targets) != len(items):
            raise TargetError(
                where="'refine'",
                expected=f"{len(items)} targets, one per image",
                got=str(len(targets)),
                remedy="Leave them out for the networks' own answers.",
            )
        if self._prices is None:
            raise NotFittedError(
                where="'refine'",
                expected="known lambdas",
                got='lambdas="auto" before prepare()',
                remedy="Call prepare(images, ladder) once, or give a table of lambdas and no feature_weight.",
            )
        factors = [self.resolution(codec.quality_scale.strength(value)) for value in values]
        sizes = [(item.shape[-2], item.shape[-1]) for item in items]
        coded = [coded_size(size, factor) for size, factor in zip(sizes, factors, strict=True)]
        batches = group_equal(list(zip(sizes, coded, strict=True)), self._settings.batch_size)
        device, cost = self._device(), RefinementCost()
        refined: dict[int, Refined] = {}
        generator = torch.Generator().manual_seed(self._settings.seed)
        networks: list[nn.Module] = [*self._judge.tasks, proxy, *([] if start is None else [start])]
        with (
            torch.inference_mode(False),
            Channel(codec, proxy=proxy) as channel,
            evaluation_mode(*networks),
            torch.no_grad(),
        ):
            proxy.to(device)
            batch_refiner = BatchRefiner(channel, self._judge, self._settings, generator)
            for rows in batches:
                source = round_to_8_bit(check_batch(torch.stack([items[row] for row in rows]), "'refine'")).to(device)
                qualities_here = [values[row] for row in rows]
                first = None
                if start is not None:
                    strengths = [codec.quality_scale.strength(quality) for quality in qualities_here]
                    first = start.to(device)(source, strengths)
                done, spent = batch_refiner.run(
                    source,
                    qualities_here,
                    self._prices.at(qualities_here, source),
                    start=first,
                    targets=None if targets is None else [targets[row] for row in rows],
                    factor=factors[rows[0]],
                )
                refined.update(zip(rows, done, strict=True))
                cost = cost + spent
        self._cost = self._cost + cost
        return Refinement(tuple(refined[row] for row in range(len(items))), cost)

    def _process(self, images: Tensor, strengths: Tensor) -> Tensor:
        scale = self._codec.quality_scale
        refinement = self.refine(images.float(), [scale.quality(strength) for strength in strengths.tolist()])
        return torch.stack([to_float(image.image) for image in refinement.images]).to(images)

    def _device(self) -> torch.device:
        return device_of(self._judge.tasks[0])
