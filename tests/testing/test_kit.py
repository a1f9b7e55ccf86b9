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
    TaskModel,
)
from precomp_sdk.testing import (
    CHECKS,
    CheckFailedError,
    DatasetSettings,
    FakeCodec,
    FakeDataset,
    FakePreprocessor,
    FakeProxy,
    FakeTask,
    Outcome,
    TaskSettings,
    check,
    extreme_images,
    natural_image,
    parametrize_with_checks,
)
from precomp_sdk.testing.codecs import needs_only_the_payload

CONTRACTS: list[Any] = [
    FakeCodec,
    lambda: FakeProxy(FakeCodec(level=1)),
    FakePreprocessor,
    FakeTask(),
    lambda: FakeDataset(sizes=[(1, 1), (9, 30)]),
]


@parametrize_with_checks(CONTRACTS)
def test_the_doubles(component: Any, check: Callable[[Any], None]) -> None:
    check(component)


@parametrize_with_checks(lambda: FakeDataset(labelled=False))
def test_unlabelled_images(component: Any, check: Callable[[Any], None]) -> None:
    check(component)


@parametrize_with_checks(lambda: FakePreprocessor(gain=0.5), expected_failures={"N2": "starts as a blur"})
def test_an_expected_failure(component: Any, check: Callable[[Any], None]) -> None:
    check(component)


class Uncounted(LabelScorer):
    def combine(self, statistics: Any, counts: Any) -> dict[str, float]:
        return super().combine(statistics, torch.ones(len(statistics)).numpy())


class Lossy(FakeCodec):
    """Passes all checks but two."""

    name = "Lossy Codec"
    version = ""


def test_checks_are_numbered_in_order_and_written_out() -> None:
    prefixes = {"codec": "C", "proxy": "P", "preprocessor": "N", "task": "T", "dataset": "D"}
    assert CHECKS.keys() == prefixes.keys()
    for kind, checks in CHECKS.items():
        assert [item.number for item in checks] == [f"{prefixes[kind]}{i + 1}" for i in range(len(checks))]
        assert all(item.statement.endswith(".") and len(item.statement) > 20 for item in checks)
        assert len({item.id for item in checks}) == len(checks) >= 9


@pytest.mark.parametrize("make", [FakeCodec, lambda: FakeProxy(FakeCodec()), FakePreprocessor, FakeTask, FakeDataset])
def test_the_doubles_pass_as_classes_and_as_objects(make: Callable[[], Any]) -> None:
    for given in (make, make()):
        report = check(given)
        assert report.failures == ()
        assert {finding.outcome for finding in report.findings} <= {Outcome.PASSED, Outcome.NOT_APPLICABLE}


def test_every_failure_is_listed_in_one_error() -> None:
    with pytest.raises(ConformanceError) as caught:
        check(Lossy)

    told = str(caught.value)
    assert told.startswith("codec 'Lossy Codec' (")
    assert "Lossy): expected 16 checks without a failure; got 2 failures:\n  C1 failed: The class says its name" in told
    assert "got 'Lossy Codec'" in told
    assert "\n  C2 failed: " in told
    assert isinstance(caught.value, AssertionError)


def test_a_check_is_a_plain_function() -> None:
    needs_only_the_payload(FakeCodec())

    class Numbered(FakeCodec):
        made = 0

        def __init__(self, *, level: int = 6) -> None:
            super().__init__(level=level)
            self._number = Numbered.made
            Numbered.made += 1

        def _decode(self, payload: bytes) -> torch.Tensor:
            return torch.full_like(super()._decode(payload), self._number)

    with pytest.raises(CheckFailedError, match="expected the image that the encoder itself decodes"):
        needs_only_the_payload(Numbered())


def test_a_failure_may_be_expected() -> None:
    expected = {"C1": "an old name", "C2": "no version"}
    report = check(Lossy, expected_failures=expected)
    outcomes = [finding.outcome for finding in report.findings[:3]]
    assert outcomes == [Outcome.EXPECTED_FAILURE, Outcome.EXPECTED_FAILURE, Outcome.PASSED]
    assert report.findings[0].detail.startswith("an old name (expected a kebab-case")
    assert report.summary().endswith("codec 'Lossy Codec': 14 of 16 checks passed, 2 expected failure")


def test_an_expected_failure_that_is_stale_fails() -> None:
    expected = {"C1": "an old name", "C2": "no version", "C3": "long mended"}
    stale = check(Lossy, expected_failures=expected, on_fail="report")
    assert [(item.check.number, item.outcome) for item in stale.failures] == [("C3", Outcome.STALE)]
    assert "the check is passed; take away the expected failure: long mended" in stale.summary()
    with pytest.raises(ConformanceError, match="C3 stale expected failure"):
        check(Lossy, expected_failures=expected)
    where_it_says_nothing = check(FakeDataset, expected_failures={"D5": "no boxes"}, on_fail="report")
    assert [item.outcome for item in where_it_says_nothing.failures] == [Outcome.STALE]


@pytest.mark.parametrize(
    ("expected", "told"),
    [({"C99": "x"}, "Did you mean 'C"), ({"C1": " "}, "Write the reason"), ({"C1": None}, "Write the reason")],
)
def test_an_expected_failure_names_a_check_and_a_reason(expected: Any, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        check(FakeCodec, expected_failures=expected)
    with pytest.raises(OptionError, match=told):
        parametrize_with_checks(FakeCodec, expected_failures=expected)


def test_what_to_do_with_failures_is_one_of_two() -> None:
    with pytest.raises(OptionError, match="'raise' or 'report'; got 'warn'"):
        check(FakeCodec, on_fail="warn")  # type: ignore[arg-type]


def test_what_is_of_no_contract_is_refused() -> None:
    for wrong in (object(), dict, "fake"):
        with pytest.raises(OptionError, match="an object of Codec, ProxyCodec, Preprocessor, TaskModel, TaskDataset"):
            check(wrong, on_fail="report")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="settings of type CodecSettings; got DatasetSettings"):
        check(FakeCodec, DatasetSettings())


def test_an_error_says_its_type_and_place() -> None:
    class Odd(FakeCodec):
        def _encode(self, image: torch.Tensor, quality: float) -> bytes:
            raise ZeroDivisionError("by zero")

    detail = next(item.detail for item in check(Odd, on_fail="report").failures if item.check.number == "C3")

    assert detail.startswith("ZeroDivisionError: by zero (test_kit.py:")


def test_the_caller_is_left_alone() -> None:
    proxy = FakeProxy(FakeCodec())
    proxy.requires_grad_(False)
    state = {name: value.clone() for name, value in proxy.state_dict().items()}
    drawn = torch.random.get_rng_state()

    check(proxy)

    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert proxy.training
    assert not proxy.log_scale.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in proxy.state_dict().items())


def test_an_unfitted_proxy_is_not_judged_by_its_answers() -> None:
    class Learned(FakeProxy):
        codec_name = "*"
        needs_fitting = True

    report = check(Learned(FakeCodec()))

    told = {item.check.number: item for item in report.findings if item.outcome is Outcome.NOT_APPLICABLE}
    assert told.keys() == {"P7", "P8", "P12"}
    assert "not fitted" in told["P7"].detail


def test_classes_that_need_options_come_as_factories() -> None:
    class Needs(FakeProxy):
        def __init__(self, codec: Codec, *, factor: float) -> None:
            super().__init__(codec)

    told = {item.check.number: item.outcome for item in check(Needs(FakeCodec(), factor=1.0)).findings}
    made = {item.check.number: item.outcome for item in check(lambda: Needs(FakeCodec(), factor=1.0)).findings}

    assert (told["P11"], made["P11"]) == (Outcome.NOT_APPLICABLE, Outcome.PASSED)
    assert told["P12"] == Outcome.NOT_APPLICABLE


def test_targets_are_made_for_every_kind() -> None:
    from precomp_sdk.testing._targets import made_targets, other_target, read_target, same_target

    sizes = [(20, 30), (11, 7)]
    boxes, masks = made_targets(Boxes.kind, sizes, 3), made_targets(Mask.kind, sizes, 3)
    for (height, width), box, mask in zip(sizes, boxes, masks, strict=True):
        assert isinstance(box, Boxes)
        assert isinstance(mask, Mask)
        assert bool((box.boxes[:, 2:] > box.boxes[:, :2]).all())
        assert bool((box.boxes <= torch.tensor([width, height, width, height])).all())
        assert mask.labels.shape == (height, width)
        for target in (box, mask):
            assert same_target(target, target)
            assert not same_target(target, other_target(target, 3))
    assert same_target(read_target(boxes[0], Boxes.kind), boxes[0])
    assert same_target(read_target(masks[0], Mask.kind), masks[0])
    scores = torch.nn.functional.one_hot(masks[0].labels, 3).permute(2, 0, 1)  # type: ignore[union-attr]
    assert same_target(read_target(scores, Mask.kind), masks[0])


def test_a_task_may_bring_targets_and_predictions() -> None:
    task: TaskModel = FakeTask(classes=6)
    settings = TaskSettings(
        targets=lambda sizes: [Label(5) for _ in sizes],
        prediction=lambda target: torch.eye(6)[target.index],  # type: ignore[union-attr]
    )

    assert check(task, settings).failures == ()
    task.scorer = Uncounted()
    assert [item.check.number for item in check(task, settings, on_fail="report").failures] == ["T8"]
    task.scorer = LabelScorer()
    wrong = TaskSettings(prediction=lambda target: -torch.eye(6)[target.index])  # type: ignore[union-attr]
    assert [item.check.number for item in check(task, wrong, on_fail="report").failures] == ["T9"]


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
from precomp_sdk.testing import FakeCodec, parametrize_with_checks

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

@parametrize_with_checks(Good)
def test_good(component, check):
    check(component)

@parametrize_with_checks([Needy, lambda: Needy()])
def test_needy(component, check):
    check(component)

@parametrize_with_checks(Bad, expected_failures={"C1": "an old name", "C4": "stale"})
def test_bad(component, check):
    check(component)

def test_made_once():
    assert len(made) <= 4  # one to check, the others by C2 and C3
"""


@pytest.mark.slow
def test_checks_become_cases_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PLUGIN_TESTS)
    arguments = ["-q", "-rfsx", "-p", "no:cacheprovider", "--no-header", str(tmp_path), "-c", "/dev/null"]

    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True, cwd=tmp_path)

    assert "2 failed, 30 passed, 17 skipped, 1 xfailed" in done.stdout, done.stdout
    assert "test_bad[C2-records-options-and-version]" in done.stdout
    assert "C4 stale expected failure" in done.stdout
    assert "an old name (expected a kebab-case" in done.stdout
    assert "pip install it." in done.stdout


@pytest.mark.slow
def test_the_kit_needs_no_pytest() -> None:
    code = (
        "import sys; from precomp_sdk.testing import FakeCodec, check; check(FakeCodec); print('pytest' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


WITHOUT_DOCSTRINGS = """
from precomp_sdk.testing import CHECKS, CheckFailedError, FakeCodec, FakeDataset, check, require
assert False, "assertions are gone, too"
print(require.__doc__, [sum(bool(one.statement) for one in checks) for checks in CHECKS.values()])
class Lossy(FakeCodec):
    version = ""
for component in (Lossy, FakeDataset):
    print(check(component, on_fail="report").summary().splitlines()[-1])
"""


@pytest.mark.slow
def test_checks_survive_python_oo() -> None:
    counts = [len(checks) for checks in CHECKS.values()]

    done = subprocess.run([sys.executable, "-OO", "-c", WITHOUT_DOCSTRINGS], capture_output=True, text=True)

    assert done.stdout.splitlines() == [
        f"None {counts}",
        "codec 'fake': 15 of 16 checks passed, 1 failed",
        f"dataset 'fake': {counts[-1] - 1} of {counts[-1]} checks passed, 1 not applicable",
    ], done.stderr


def test_a_registry_is_not_a_component(doubles: Registry) -> None:
    with pytest.raises(OptionError, match="got Registry"):
        check(doubles)  # type: ignore[arg-type]
