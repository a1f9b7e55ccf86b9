"""The five contracts' own promises: what their final methods check."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from precomp_sdk import (
    BitstreamError,
    ContractError,
    DatasetError,
    ImageError,
    Label,
    LabelScorer,
    Mask,
    NotFittedError,
    OptionError,
    ProxyOutput,
    QualityError,
    Subset,
    Target,
    TargetError,
    load_samples,
    quality_tensor,
)
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask

IMAGE = torch.arange(3 * 5 * 7, dtype=torch.uint8).reshape(3, 5, 7)
BATCH = torch.rand(2, 3, 5, 7)


def patched(cls: type, **attributes: Any) -> Any:
    return type(f"Odd{cls.__name__}", (cls,), attributes)


class TestCodec:
    def test_wrong_images_and_qualities_are_refused(self) -> None:
        codec = FakeCodec()
        with pytest.raises(ImageError, match="fake encoder"):
            codec.encode(IMAGE.float(), 50)
        for quality in (0, 101, 50.5):
            with pytest.raises(QualityError):
                codec.encode(IMAGE, quality)

    @pytest.mark.parametrize(("payload", "got"), [("text", "str"), (b"", "0 bytes"), (None, "NoneType")])
    def test_payloads_are_bytes(self, payload: Any, got: str) -> None:
        with pytest.raises(ContractError, match=f"OddFakeCodec._encode: .*got {got}"):
            patched(FakeCodec, _encode=lambda *_: payload)().encode(IMAGE, 50)
        with pytest.raises(BitstreamError, match=f"fake decoder: .*got {got}"):
            FakeCodec().decode(payload)

    def test_what_a_decoder_returns_is_an_image(self) -> None:
        codec = patched(FakeCodec, _decode=lambda *_: torch.zeros(3, 2, 2))()
        with pytest.raises(ContractError, match=r"OddFakeCodec\._decode: expected a uint8 tensor"):
            codec.decode(b"x")

    def test_a_round_trip_keeps_the_size_and_counts_the_bits(self) -> None:
        codec = FakeCodec()
        done = codec.transcode(IMAGE, 100)
        assert torch.equal(done.image, IMAGE)
        assert done.bits == 8 * len(codec.encode(IMAGE, 100))
        downscaling = patched(FakeCodec, _decode=lambda *_: torch.zeros(3, 2, 2, dtype=torch.uint8))()
        with pytest.raises(ContractError, match=r"shape \(3, 5, 7\); got \(3, 2, 2\)"):
            downscaling.transcode(IMAGE, 100)


class TestProxy:
    def test_wrong_batches_and_qualities_are_refused(self) -> None:
        proxy = FakeProxy(FakeCodec())
        with pytest.raises(ImageError):
            proxy(IMAGE, 50)
        with pytest.raises(QualityError):
            proxy(BATCH, [50, 101])
        with pytest.raises(ContractError, match="one quality, or one for each of 2 images; got 3"):
            proxy(BATCH, [50, 60, 70])

    def test_qualities_may_be_one_or_one_per_image(self) -> None:
        scale = FakeCodec.quality_scale
        for given in (50, [50], torch.tensor(50.0), torch.tensor([50.0, 50.0]), (50, 50)):
            assert quality_tensor(given, scale, 2).tolist() == [50.0, 50.0]

    def test_it_is_of_no_use_before_it_is_fitted(self) -> None:
        proxy = patched(FakeProxy, needs_fitting=True)(FakeCodec())
        with pytest.raises(NotFittedError, match="fit_proxy"):
            proxy(BATCH, 50)
        proxy.mark_fitted()
        assert proxy(BATCH, 50).bits.shape == (2,)
        assert bool(proxy.state_dict()["fitted"])

    def test_what_it_predicts_has_the_right_shapes(self) -> None:
        def wrong(self: Any, images: Tensor, qualities: Tensor) -> ProxyOutput:
            return ProxyOutput(images, qualities[:, None])

        with pytest.raises(ContractError, match=r"bits \(2,\); got .* bits \(2, 1\)"):
            patched(FakeProxy, _predict=wrong)(FakeCodec())(BATCH, 50)


class TestPreprocessor:
    def test_strengths_are_one_or_one_per_image_in_0_to_1(self) -> None:
        preprocessor = FakePreprocessor()
        assert torch.equal(preprocessor(BATCH, 0.5), preprocessor(BATCH, [0.5, 0.5]))
        for wrong in ([0.1, 0.2, 0.3], [0.1, 1.1], [-0.1, 0.0], [float("nan"), 0.0]):
            with pytest.raises(ContractError, match=r"one strength in \[0, 1\] for each of 2 images"):
                preprocessor(BATCH, wrong)
        with pytest.raises(ImageError):
            preprocessor(IMAGE, 0.5)

    def test_padding_is_done_and_undone_and_the_result_is_clipped(self) -> None:
        seen: list[tuple[int, ...]] = []

        def process(self: Any, images: Tensor, strengths: Tensor) -> Tensor:
            seen.append(tuple(images.shape))
            return images * 3.0 - 1.0

        result = patched(FakePreprocessor, multiple=8, _process=process)()(BATCH, 0.0)
        assert seen == [(2, 3, 8, 8)]
        assert torch.allclose(result, (BATCH * 3.0 - 1.0).clamp(0.0, 1.0))

    def test_the_shape_is_kept(self) -> None:
        with pytest.raises(ContractError, match=r"OddFakePreprocessor._process: expected shape \(2, 3, 5, 7\)"):
            patched(FakePreprocessor, _process=lambda self, images, strengths: images[..., :-1])()(BATCH, 0.0)


LABELS: list[Target] = [Label(0), Label(1)]


class TestTask:
    def test_images_of_unequal_sizes_keep_their_order(self) -> None:
        task = FakeTask()
        images = [torch.rand(3, height, 9) for height in (9, 12, 9, 12, 10)]
        targets = [Label(index % 4) for index in range(5)]

        together = task.losses(images, targets)
        predictions, judged = task.predict_with_losses(images, targets)

        alone = torch.cat([task.losses([item], [target]) for item, target in zip(images, targets, strict=True)])
        assert torch.allclose(together, alone)
        assert torch.allclose(judged, alone)
        for index, item in enumerate(images):
            assert torch.allclose(predictions[index], task.predict([item])[0])
            assert torch.allclose(task.predict(images)[index], predictions[index])
            own = task.pseudo_labels(images)[index]
            assert isinstance(own, Label)
            assert own.index == int(predictions[index].argmax())

    def test_targets_are_one_per_image_and_of_its_kind(self) -> None:
        task = FakeTask()
        mixed: list[Target] = [Label(0), Mask(torch.zeros(5, 7, dtype=torch.int64))]
        for wrong in (LABELS[:1], mixed):
            with pytest.raises(TargetError, match="2 targets of kind 'label'"):
                task.losses(BATCH, wrong)
        with pytest.raises(ImageError):
            task.losses(IMAGE[None], LABELS)

    def test_what_it_returns_is_one_per_image(self) -> None:
        with pytest.raises(ContractError, match=r'one loss per image.*reduction="none"'):
            patched(FakeTask, _losses=lambda *_: torch.zeros(()))().losses(BATCH, LABELS)
        with pytest.raises(ContractError, match=r"OddFakeTask._predict: expected 2 answers"):
            patched(FakeTask, _predict=lambda *_: [])().predict(BATCH)

    def test_what_it_does_not_offer_is_told(self) -> None:
        from precomp_sdk import TaskModel

        task = patched(FakeTask, _features=TaskModel._features, _pseudo_labels=TaskModel._pseudo_labels)()
        with pytest.raises(OptionError, match="without _features"):
            task.features(BATCH)
        with pytest.raises(OptionError, match="without _pseudo_labels"):
            task.pseudo_labels(BATCH)
        task.check_dataset(("anything",))

    def test_gradients_flow_from_losses_and_features_to_the_images(self) -> None:
        images = BATCH.clone().requires_grad_()
        task = FakeTask()
        for value in (task.losses(images, LABELS).sum(), task.features(images)[0].square().sum()):
            (gradient,) = torch.autograd.grad(value, images)
            assert bool((gradient != 0).any())


class TestLabelScorer:
    def test_ties_count_against_the_prediction(self) -> None:
        scorer = LabelScorer()
        logits = torch.tensor([3.0, 2.0, 2.0, 1.0, 0.0, -1.0, -2.0])
        for index, expected in ((0, [1, 1]), (1, [0, 1]), (4, [0, 1]), (5, [0, 0])):
            assert scorer.measure(logits, Label(index)).tolist() == expected
        assert scorer.measure(torch.zeros(10), Label(0)).tolist() == [0, 0]

    def test_another_target_is_refused(self) -> None:
        with pytest.raises(TargetError, match="expected a Label; got Mask"):
            LabelScorer().measure(torch.zeros(3), Mask(torch.zeros(1, 1)))

    def test_means_are_weighted_alike_one_by_one_and_together(self) -> None:
        import numpy as np

        scorer = LabelScorer()
        statistics = [np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 0.0])]
        counts = np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 0.0]])

        many = scorer.combine_many(statistics, counts)

        assert scorer.combine(statistics, counts[1]) == {"top1": 0.75, "top5": 1.0}
        for metric in scorer.metrics:
            rows = [scorer.combine(statistics, row)[metric] for row in counts]
            assert many[metric].tolist() == pytest.approx(rows)
        slow = super(LabelScorer, scorer).combine_many(statistics, counts)
        assert slow["top1"].tolist() == pytest.approx(many["top1"].tolist())


class TestDataset:
    def test_samples_have_image_target_and_key(self) -> None:
        sample = FakeDataset(count=3)[2]
        assert sample.image.dtype == torch.uint8
        assert sample.target == Label(2)
        assert sample.key == "2"

    @pytest.mark.parametrize("index", [-1, 3])
    def test_there_is_nothing_beyond_the_ends(self, index: int) -> None:
        with pytest.raises(IndexError, match="fake: index"):
            FakeDataset(count=3)[index]

    def test_what_a_data_set_returns_is_checked(self) -> None:
        def without_target(self: Any, index: int) -> tuple[Tensor, None]:
            return IMAGE, None

        def float_image(self: Any, index: int) -> tuple[Tensor, Label]:
            return IMAGE.float(), Label(0)

        with pytest.raises(ContractError, match=r"_sample\(0\): expected a target of kind 'label'; got None"):
            patched(FakeDataset, _sample=without_target)()[0]
        with pytest.raises(ImageError, match="data set 'fake', sample '0'"):
            patched(FakeDataset, _sample=float_image)()[0]

    def test_a_subset_is_the_whole_sets_images_in_the_given_order(self) -> None:
        told: list[int] = []
        whole = patched(FakeDataset, set_epoch=lambda self, epoch: told.append(epoch))(count=5)

        part = Subset(whole, [4, 1])
        part.set_epoch(3)

        assert (len(part), part[0].key, part[1].target) == (2, "4", Label(1))
        assert (part.target_kind, part.class_names) == (Label.kind, whole.class_names)
        assert told == [3]
        with pytest.raises(DatasetError, match="indices from 0 to 4; got 1 to 5"):
            Subset(whole, [1, 5])

    def test_unreadable_images_stop_or_are_named(self) -> None:
        dataset = FakeDataset(count=4, unreadable=[1, 2])

        with pytest.raises(DatasetError, match="fake image 1"):
            load_samples(dataset, range(4))
        samples, skipped = load_samples(dataset, [3, 2, 0], skip_unreadable=True)

        assert [sample.key for sample in samples] == ["3", "0"]
        assert [(item.key, "fake image 2" in item.reason) for item in skipped] == [("2", True)]


def test_the_doubles_take_sequences_of_any_kind() -> None:
    images: Sequence[Tensor] = tuple(BATCH)
    assert len(FakeTask().predict(images)) == 2
