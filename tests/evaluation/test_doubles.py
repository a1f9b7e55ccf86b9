import numpy as np
import pytest
import torch

from precomp_sdk import BitstreamError, ContractError, DatasetError, Label, LabelScorer, TargetError, stack_images
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask


@pytest.mark.parametrize("quality", [1, 5, 30, 50, 70, 99, 100])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (24, 17)])
def test_the_codec_is_off_by_half_a_step_at_most(quality, size):
    codec = FakeCodec()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    payload = codec.encode(image, quality)
    assert payload == FakeCodec().encode(image, quality)
    step = round(2 ** (7 * codec.quality_scale.strength(quality)))
    decoded = FakeCodec().decode(payload)
    assert int((decoded.int() - image.int()).abs().max()) <= step / 2
    if quality == 100:
        assert torch.equal(decoded, image)


def test_coarser_steps_cost_less():
    codec, image = FakeCodec(), FakeDataset()[0].image
    sizes = [len(codec.encode(image, quality)) for quality in codec.quality_scale.ladder]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 3


@pytest.mark.parametrize("change", ["cut", "short", "longer", "magic", "step", "flip", "size"])
def test_rubbish_is_refused(change):
    payload = FakeCodec().encode(FakeDataset()[0].image, 50)
    broken = {
        "cut": payload[:-5],
        "short": payload[:4],
        "longer": payload + b"x",
        "magic": b"JUNK" + payload[4:],
        "step": payload[:8] + b"\0" + payload[9:],
        "flip": payload[:12] + bytes([payload[12] ^ 255]) + payload[13:],
        "size": payload[:5] + b"\x10" + payload[6:],
    }[change]
    with pytest.raises(BitstreamError):
        FakeCodec().decode(broken)


def test_the_proxy_shows_what_the_codec_decodes_and_has_gradients():
    codec = FakeCodec()
    images = stack_images([FakeDataset()[index].image for index in range(5)]).requires_grad_()
    qualities = [5.0, 20.0, 50.0, 90.0, 100.0]
    output = FakeProxy(codec)(images, qualities)
    decoded = stack_images(
        [codec.transcode(FakeDataset()[index].image, quality).image for index, quality in enumerate(qualities)]
    )
    torch.testing.assert_close(output.images.detach(), decoded, atol=1e-6, rtol=0)
    (output.images.sum() + output.bits.sum()).backward()
    assert images.grad is not None
    assert bool((images.grad != 0).any())


def test_the_preprocessor_is_the_identity_at_the_start_and_saves_bits_later():
    codec, dataset = FakeCodec(), FakeDataset(count=8)
    images = stack_images([dataset[index].image for index in range(8)])
    assert torch.equal(FakePreprocessor()(images, 1.0), images)
    smooth = FakePreprocessor(gain=0.8)(images, 0.5).detach()
    before, after = (sum(len(codec.encode((i * 255).round().byte(), 50)) for i in batch) for batch in (images, smooth))
    assert after < before


def test_the_data_set_repeats_itself_and_marks_broken_images():
    one, other = FakeDataset(sizes=[(8, 9), (5, 4)]), FakeDataset(sizes=[(8, 9), (5, 4)], seed=1)
    assert torch.equal(one[3].image, one[3].image)
    assert not torch.equal(one[3].image, other[3].image)
    assert one[1].image.shape == (3, 5, 4)
    assert one[2].target == Label(2)
    assert FakeDataset(labelled=False)[0].target is None
    with pytest.raises(DatasetError, match="fake image 2"):
        FakeDataset(unreadable={2})[2]


def test_the_task_tells_most_gratings_and_takes_one_pixel():
    dataset, task = FakeDataset(count=40), FakeTask()
    samples = [dataset[index] for index in range(40)]
    predictions = task.predict(stack_images([sample.image for sample in samples]))
    statistics = [task.scorer.measure(*pair) for pair in zip(predictions, (s.target for s in samples), strict=True)]
    assert task.scorer.combine(statistics, np.ones(40))["top1"] > 0.9
    assert len(task.predict(torch.rand(2, 3, 1, 1))) == 2
    assert task.pseudo_labels(torch.rand(2, 3, 9, 9))[0].probabilities.sum() == pytest.approx(1.0)


def test_judge_gives_the_predictions_and_the_losses_in_order():
    task = FakeTask()
    images = [torch.rand(3, *size) for size in ((8, 8), (9, 5), (4, 4), (8, 8))]
    targets = [Label(index) for index in range(4)]
    predictions, losses = task.predict_with_losses(images, targets)
    alone = [task.losses([image], [target]).detach() for image, target in zip(images, targets, strict=True)]
    torch.testing.assert_close(losses, torch.cat(alone))
    assert not losses.requires_grad
    for one, other in zip(predictions, task.predict(images), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(TargetError, match="4 targets"):
        task.predict_with_losses(images, targets[:3])

    class Plain(FakeTask):
        """Has no short cut of its own."""

        def _predict_with_losses(self, images, targets):
            return super(FakeTask, self)._predict_with_losses(images, targets)

        def _losses(self, images, targets):
            return FakeTask._predict_with_losses(self, images, targets)[1]

    slow = Plain().predict_with_losses(images, targets)
    torch.testing.assert_close(slow[1], losses)

    class Short(FakeTask):
        def _predict_with_losses(self, images, targets):
            return [], torch.zeros(len(images))

    with pytest.raises(ContractError, match=r"Short\._predict_with_losses: expected 2 answers"):
        Short().predict_with_losses(images, targets)


def test_many_multisets_at_once_score_like_one_after_the_other():
    scorer = LabelScorer()
    statistics = [np.array([row % 2, 1.0]) for row in range(6)]
    counts = np.random.default_rng(0).multinomial(6, [1 / 6] * 6, size=4).astype(float)
    many = scorer.combine_many(statistics, counts)
    slow = super(LabelScorer, scorer).combine_many(statistics, counts)
    for metric in scorer.metrics:
        np.testing.assert_allclose(many[metric], slow[metric])
        assert many[metric].shape == (4,)
