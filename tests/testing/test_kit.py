import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from precomp_sdk import (
    Boxes,
    Codec,
    ConformanceError,
    Label,
    LabelScorer,
    Mask,
    OptionError,
    Registry,
    TargetKind,
    TaskModel,
)
from precomp_sdk.testing import (
    PROMISES,
    DatasetSettings,
    FakeCodec,
    FakeDataset,
    FakePreprocessor,
    FakeProxy,
    FakeTask,
    Outcome,
    TaskSettings,
    check_codec,
    check_dataset,
    check_preprocessor,
    check_proxy,
    check_task,
    codec_cases,
    dataset_cases,
    examine,
    extreme_images,
    natural_image,
    preprocessor_cases,
    proxy_cases,
    task_cases,
)
from precomp_sdk.testing.codecs import check_needs_only_the_payload
from precomp_sdk.testing.promises import BrokenPromiseError

test_the_codec_double = codec_cases(FakeCodec)
test_the_proxy_double = proxy_cases(lambda: FakeProxy(FakeCodec(level=1)))
test_the_preprocessor_double = preprocessor_cases(FakePreprocessor)
test_the_task_double = task_cases(FakeTask)
test_the_data_set_double = dataset_cases(lambda: FakeDataset(sizes=[(1, 1), (9, 30)]))
test_unlabelled_images = dataset_cases(lambda: FakeDataset(labelled=False))
test_an_excused_preprocessor = preprocessor_cases(
    lambda: FakePreprocessor(gain=0.5), expected_failures={"N2": "starts as a blur"}
)


class Uncounted(LabelScorer):
    def combine(self, statistics: Any, counts: Any) -> dict[str, float]:
        return super().combine(statistics, torch.ones(len(statistics)).numpy())


class Lossy(FakeCodec):
    """Keeps all promises but two."""

    name = "Lossy Codec"
    version = ""


def test_promises_are_numbered_in_order_and_written_out() -> None:
    prefixes = {"codec": "C", "proxy": "P", "preprocessor": "N", "task": "T", "dataset": "D"}
    assert PROMISES.keys() == prefixes.keys()
    for kind, promises in PROMISES.items():
        assert [item.number for item in promises] == [f"{prefixes[kind]}{i + 1}" for i in range(len(promises))]
        assert all(item.statement.endswith(".") and len(item.statement) > 20 for item in promises)
        assert len({item.id for item in promises}) == len(promises) >= 9


@pytest.mark.parametrize(
    ("check", "make"),
    [
        (check_codec, FakeCodec),
        (check_proxy, lambda: FakeProxy(FakeCodec())),
        (check_preprocessor, FakePreprocessor),
        (check_task, FakeTask),
        (check_dataset, FakeDataset),
    ],
)
def test_the_doubles_pass_as_classes_and_as_objects(check: Callable[[Any], Any], make: Callable[[], Any]) -> None:
    for given in (make, make()):
        report = check(given)
        assert report.failures == ()
        assert {finding.outcome for finding in report.findings} <= {Outcome.KEPT, Outcome.NOT_APPLICABLE}


def test_every_failure_is_listed_in_one_error() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_codec(Lossy)

    told = str(caught.value)
    assert told.startswith("codec 'Lossy Codec' (")
    assert "Lossy): expected 16 promises kept; got 2 failures:\n  C1 broken: The class says its name" in told
    assert "got 'Lossy Codec'" in told
    assert "\n  C2 broken: " in told
    assert isinstance(caught.value, AssertionError)


def test_a_check_is_a_plain_function() -> None:
    check_needs_only_the_payload(FakeCodec())

    class Numbered(FakeCodec):
        made = 0

        def __init__(self, *, level: int = 6) -> None:
            super().__init__(level=level)
            self._number = Numbered.made
            Numbered.made += 1

        def _decode(self, payload: bytes) -> torch.Tensor:
            return torch.full_like(super()._decode(payload), self._number)

    with pytest.raises(BrokenPromiseError, match="expected the image that the encoder itself decodes"):
        check_needs_only_the_payload(Numbered())


def test_excuses_are_for_what_is_broken() -> None:
    excuses = {"C1": "an old name", "C2": "no version"}
    report = check_codec(Lossy, expected_failures=excuses)
    assert [finding.outcome for finding in report.findings[:3]] == [Outcome.EXCUSED, Outcome.EXCUSED, Outcome.KEPT]
    assert report.findings[0].detail.startswith("an old name (expected a kebab-case")
    assert report.summary().endswith("codec 'Lossy Codec': 14 of 16 promises kept")

    stale = examine(Lossy, expected_failures={**excuses, "C3": "long mended"})
    assert [(item.promise.number, item.outcome) for item in stale.failures] == [("C3", Outcome.STALE)]
    assert "the promise is kept; take away its excuse: long mended" in stale.summary()
    with pytest.raises(ConformanceError, match="C3 stale excuse"):
        stale.raise_if_failed()
    where_it_says_nothing = examine(FakeDataset, expected_failures={"D5": "no boxes"})
    assert [item.outcome for item in where_it_says_nothing.failures] == [Outcome.STALE]


@pytest.mark.parametrize(
    ("excuses", "told"),
    [({"C99": "x"}, "Did you mean 'C"), ({"C1": " "}, "Write the reason"), ({"C1": None}, "Write the reason")],
)
def test_an_excuse_names_a_promise_and_a_reason(excuses: Any, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        check_codec(FakeCodec, expected_failures=excuses)
    with pytest.raises(OptionError, match=told):
        codec_cases(FakeCodec, expected_failures=excuses)


def test_what_is_of_no_contract_is_refused() -> None:
    for wrong in (object(), dict, "fake"):
        with pytest.raises(OptionError, match="an object of Codec, ProxyCodec, Preprocessor, TaskModel, TaskDataset"):
            examine(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="settings of type CodecSettings; got DatasetSettings"):
        examine(FakeCodec, DatasetSettings())


def test_an_error_says_its_type_and_place() -> None:
    class Odd(FakeCodec):
        def _encode(self, image: torch.Tensor, quality: float) -> bytes:
            raise ZeroDivisionError("by zero")

    detail = next(item.detail for item in examine(Odd).failures if item.promise.number == "C3")

    assert detail.startswith("ZeroDivisionError: by zero (test_kit.py:")


def test_the_caller_is_left_alone() -> None:
    proxy = FakeProxy(FakeCodec())
    proxy.requires_grad_(False)
    state = {name: value.clone() for name, value in proxy.state_dict().items()}
    drawn = torch.random.get_rng_state()

    check_proxy(proxy)

    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert proxy.training
    assert not proxy.log_scale.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in proxy.state_dict().items())


def test_an_unfitted_proxy_is_not_judged_by_its_answers() -> None:
    class Learned(FakeProxy):
        codec_name = "*"
        needs_fitting = True

    report = check_proxy(Learned(FakeCodec()))

    told = {item.promise.number: item for item in report.findings if item.outcome is Outcome.NOT_APPLICABLE}
    assert told.keys() == {"P7", "P8", "P12"}
    assert "not fitted" in told["P7"].detail


def test_classes_that_need_options_come_as_factories() -> None:
    class Needs(FakeProxy):
        def __init__(self, codec: Codec, *, factor: float) -> None:
            super().__init__(codec)

    told = {item.promise.number: item.outcome for item in examine(Needs(FakeCodec(), factor=1.0)).findings}
    made = {item.promise.number: item.outcome for item in examine(lambda: Needs(FakeCodec(), factor=1.0)).findings}

    assert (told["P11"], made["P11"]) == (Outcome.NOT_APPLICABLE, Outcome.KEPT)
    assert told["P12"] == Outcome.NOT_APPLICABLE


def test_targets_are_made_for_every_kind() -> None:
    from precomp_sdk.testing._targets import made_targets, other_target, read_target, same_target

    sizes = [(20, 30), (11, 7)]
    boxes, masks = made_targets(TargetKind.BOXES, sizes, 3), made_targets(TargetKind.MASK, sizes, 3)
    for (height, width), box, mask in zip(sizes, boxes, masks, strict=True):
        assert isinstance(box, Boxes)
        assert isinstance(mask, Mask)
        assert bool((box.boxes[:, 2:] > box.boxes[:, :2]).all())
        assert bool((box.boxes <= torch.tensor([width, height, width, height])).all())
        assert mask.labels.shape == (height, width)
        for target in (box, mask):
            assert same_target(target, target)
            assert not same_target(target, other_target(target, 3))
    assert same_target(read_target(boxes[0], TargetKind.BOXES), boxes[0])
    assert same_target(read_target(masks[0], TargetKind.MASK), masks[0])
    scores = torch.nn.functional.one_hot(masks[0].labels, 3).permute(2, 0, 1)  # type: ignore[union-attr]
    assert same_target(read_target(scores, TargetKind.MASK), masks[0])


def test_a_task_may_bring_targets_and_predictions() -> None:
    task: TaskModel = FakeTask(classes=6)
    settings = TaskSettings(
        targets=lambda sizes: [Label(5) for _ in sizes],
        prediction=lambda target: torch.eye(6)[target.index],  # type: ignore[union-attr]
    )

    assert check_task(task, settings).failures == ()
    task.scorer = Uncounted()
    assert [item.promise.number for item in examine(task, settings).failures] == ["T8"]
    task.scorer = LabelScorer()
    wrong = TaskSettings(prediction=lambda target: -torch.eye(6)[target.index])  # type: ignore[union-attr]
    assert [item.promise.number for item in examine(task, wrong).failures] == ["T9"]


def test_images_are_like_photographs_and_repeat_themselves() -> None:
    image = natural_image(40, 56)
    assert torch.equal(image, natural_image(40, 56))
    assert not torch.equal(image, natural_image(40, 56, seed=1))
    values = image.float()
    steps = values.diff(dim=2).abs().mean()
    assert 20 < values.std() < 90
    assert 3 < steps < values.std()  # neighbours are alike, but not the same
    assert (values[0] - values[1]).abs().mean() > 5  # it has colour
    assert natural_image(1, 1).shape == (3, 1, 1)
    extremes = extreme_images(6, 9)
    assert len(extremes) == 9
    assert all(item.shape == (3, 6, 9) and item.dtype == torch.uint8 for item in extremes.values())
    gray = extremes["a gray image"]
    assert torch.equal(gray[0], gray[1])


PLUGIN_TESTS = """
from precomp_sdk import MissingDependencyError
from precomp_sdk.testing import FakeCodec, codec_cases

made = []

class Good(FakeCodec):
    def __init__(self, *, level=6):
        super().__init__(level=level)
        made.append(self)

class Needy(FakeCodec):
    def __init__(self):
        raise MissingDependencyError(where="needy", expected="a package", got="none", remedy="pip install it.")

class Bad(FakeCodec):
    name = "Bad"
    version = ""

test_good = codec_cases(Good)
test_needy = codec_cases(Needy)
test_bad = codec_cases(Bad, expected_failures={"C1": "an old name", "C4": "stale"})

def test_made_once():
    assert len(made) <= 4  # one to check, the others by C2 and C3
"""


def test_one_line_makes_the_promises_cases_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PLUGIN_TESTS)
    arguments = ["-q", "-rfsx", "-p", "no:cacheprovider", "--no-header", str(tmp_path), "-c", "/dev/null"]

    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True, cwd=tmp_path)

    assert "2 failed, 30 passed, 16 skipped, 1 xfailed" in done.stdout, done.stdout
    assert "test_bad[C2-records-options-and-version]" in done.stdout
    assert "C4 stale excuse" in done.stdout
    assert "an old name (expected a kebab-case" in done.stdout
    assert "pip install it." in done.stdout


def test_the_kit_needs_no_pytest() -> None:
    code = (
        "import sys; from precomp_sdk.testing import FakeCodec, check_codec; check_codec(FakeCodec); "
        "print('pytest' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_registry_is_not_a_component(doubles: Registry) -> None:
    with pytest.raises(OptionError, match="got Registry"):
        check_codec(doubles)  # type: ignore[arg-type]
