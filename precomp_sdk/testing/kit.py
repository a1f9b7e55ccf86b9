"""The conformance kit: `check` a component against its contract, or `parametrize_with_checks` a test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import MissingDependencyError, OptionError
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel
from precomp_sdk.testing.checks import Check
from precomp_sdk.testing.codecs import CODEC_CHECKS, CodecSettings
from precomp_sdk.testing.datasets import DATASET_CHECKS, DatasetSettings
from precomp_sdk.testing.preprocessors import PREPROCESSOR_CHECKS, PreprocessorSettings
from precomp_sdk.testing.proxies import PROXY_CHECKS, ProxySettings
from precomp_sdk.testing.report import Outcome, Report, check_expected_failures, run_one_check
from precomp_sdk.testing.tasks import TASK_CHECKS, TaskSettings

if TYPE_CHECKING:
    import pytest

__all__ = ["CHECKS", "check", "parametrize_with_checks"]

Component: TypeAlias = Codec | ProxyCodec | Preprocessor | TaskModel | TaskDataset
Given: TypeAlias = Component | Callable[[], Component]  # an object, its class, or another callable that makes it
Settings: TypeAlias = CodecSettings | ProxySettings | PreprocessorSettings | TaskSettings | DatasetSettings

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "codec": tuple(CODEC_CHECKS),
    "proxy": tuple(PROXY_CHECKS),
    "preprocessor": tuple(PREPROCESSOR_CHECKS),
    "task": tuple(TASK_CHECKS),
    "dataset": tuple(DATASET_CHECKS),
}  #: the checks of each contract, by kind of component


@dataclass(frozen=True, slots=True)
class _Contract:
    kind: str
    cls: type
    settings: type[Any]


_CONTRACTS = (
    _Contract("codec", Codec, CodecSettings),
    _Contract("proxy", ProxyCodec, ProxySettings),
    _Contract("preprocessor", Preprocessor, PreprocessorSettings),
    _Contract("task", TaskModel, TaskSettings),
    _Contract("dataset", TaskDataset, DatasetSettings),
)


def check(
    component: Given,
    settings: Settings | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    on_fail: Literal["raise", "report"] = "raise",
) -> Report:
    """Run every check of a component's contract on it.

    Args:
        component: an object of one of the five contracts, or its class or another callable that makes one: fresh ones
            are then made so, too.
        settings: how to check; None takes the contract's defaults.
        expected_failures: the reason why a check fails, by its number. One for a check that does not fail is a failure
            as well.
        on_fail: ``"report"`` returns the report of a component that fails, too.

    Raises:
        ConformanceError: a check failed, or an expected failure is stale; the message lists every one.
        OptionError: the component is of no contract, the settings are another contract's, or an expected failure names
            no check or no reason.

    Example:
        >>> from precomp_sdk.testing import FakeDataset, check
        >>> check(FakeDataset).failures
        ()
    """
    if on_fail not in ("raise", "report"):
        raise OptionError(
            where="check, option 'on_fail'", expected="'raise' or 'report'", got=repr(on_fail), remedy="Choose one."
        )
    subject = _Subject(component, settings)
    made, contract = subject.made, subject.contract
    checks = CHECKS[contract.kind]
    expected = check_expected_failures(checks, expected_failures)
    cls = type(made)
    report = Report(
        kind=contract.kind,
        name=str(getattr(made, "name", cls.__name__)),
        cls=f"{cls.__module__}.{cls.__qualname__}",
        findings=tuple(run_one_check(one, made, subject.settings, expected.get(one.number)) for one in checks),
    )
    if on_fail == "raise":
        report.raise_if_failed()
    return report


def parametrize_with_checks(
    components: Given | Sequence[Given],
    settings: Settings | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
) -> "pytest.MarkDecorator":
    """Return a decorator that gives a test of pytest one case per check: scikit-learn's, for our contracts.

    A class is constructed when its first case runs, and once; any other callable when the tests are collected, for
    nothing else says which contract it is of. An expected failure is reported as xfailed, a check that does not apply
    as skipped; where a package that the component needs is missing, all are skipped.

    Args:
        components: one or several, each as `check` takes it.
        settings: see `check`.
        expected_failures: see `check`.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, parametrize_with_checks
        >>> @parametrize_with_checks(FakeCodec)
        ... def test_conformance(component, check):
        ...     check(component)
    """
    import pytest

    several = isinstance(components, Sequence)
    cases = []
    for component in components if isinstance(components, Sequence) else (components,):
        subject = _Subject(component, settings)
        name = getattr(component, "__name__", type(component).__name__)
        try:
            contract = subject.contract
        except MissingDependencyError as error:
            cases.append(pytest.param(component, None, id=name, marks=pytest.mark.skip(reason=str(error))))
            continue
        checks = CHECKS[contract.kind]
        expected = check_expected_failures(checks, expected_failures)
        for one in checks:
            case = _Case(one, subject, expected.get(one.number))
            cases.append(pytest.param(component, case, id=f"{name}-{one.id}" if several else one.id))
    return pytest.mark.parametrize(("component", "check"), cases)


class _Subject:
    """A component that may still have to be made, and how it is checked."""

    def __init__(self, component: Given, settings: Settings | None) -> None:
        self.given, self._settings = component, settings

    def of(self, component: Given) -> "_Subject":
        """Return itself for the component that it holds, and the same settings for another."""
        return self if component is self.given else _Subject(component, self._settings)

    @cached_property
    def made(self) -> Any:
        """The component itself."""
        given: Any = self.given
        is_made = isinstance(given, tuple(contract.cls for contract in _CONTRACTS))
        return given() if not is_made and callable(given) else given

    @cached_property
    def contract(self) -> _Contract:
        """The contract of the component; of a class it is known before one is made."""
        cls = self.given if isinstance(self.given, type) else type(self.made)
        for contract in _CONTRACTS:
            if issubclass(cls, contract.cls):
                return contract
        names = ", ".join(item.cls.__name__ for item in _CONTRACTS)
        raise OptionError(
            where="conformance kit",
            expected=f"an object of {names}, or a callable that makes one",
            got=cls.__name__,
            remedy="Derive it from the contract.",
        )

    @cached_property
    def settings(self) -> Any:
        """The settings, with the callable that the component came from."""
        chosen: Any = self.contract.settings() if self._settings is None else self._settings
        if type(chosen) is not self.contract.settings:
            raise OptionError(
                where=f"conformance kit, {self.contract.kind}",
                expected=f"settings of type {self.contract.settings.__name__}",
                got=type(chosen).__name__,
                remedy="Give the settings of the component's own contract.",
            )
        return chosen if self.made is self.given or chosen.make is not None else replace(chosen, make=self.given)


@dataclass(frozen=True)
class _Case:
    """One check of one component, as a test calls it."""

    check: Check
    subject: _Subject
    expected_failure: str | None

    def __call__(self, component: Given) -> None:
        import pytest

        try:
            subject = self.subject.of(component)
            made, settings = subject.made, subject.settings
        except MissingDependencyError as error:
            pytest.skip(str(error))
        finding = run_one_check(self.check, made, settings, self.expected_failure)
        if finding.outcome is Outcome.NOT_APPLICABLE:
            pytest.skip(finding.detail)
        if finding.outcome is Outcome.EXPECTED_FAILURE:
            pytest.xfail(finding.detail)
        if finding.failed:
            pytest.fail(str(finding), pytrace=False)
