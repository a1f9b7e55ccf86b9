"""The conformance kit: does a component keep the promises of its contract?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias, TypeVar

from precomp_sdk.codec import Codec
from precomp_sdk.data import TaskDataset
from precomp_sdk.errors import MissingDependencyError, OptionError
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel
from precomp_sdk.testing.codecs import CODEC_PROMISES, CodecSettings
from precomp_sdk.testing.datasets import DATASET_PROMISES, DatasetSettings
from precomp_sdk.testing.preprocessors import PREPROCESSOR_PROMISES, PreprocessorSettings
from precomp_sdk.testing.promises import (
    Outcome,
    Promise,
    Report,
    check_excuses,
    examine_promise,
    examine_promises,
)
from precomp_sdk.testing.proxies import PROXY_PROMISES, ProxySettings
from precomp_sdk.testing.tasks import TASK_PROMISES, TaskSettings

__all__ = [
    "PROMISES",
    "check_codec",
    "check_dataset",
    "check_preprocessor",
    "check_proxy",
    "check_task",
    "codec_cases",
    "dataset_cases",
    "examine",
    "preprocessor_cases",
    "proxy_cases",
    "task_cases",
]

C = TypeVar("C")
Made: TypeAlias = C | Callable[[], C]
Excuses: TypeAlias = Mapping[str, str] | None
Settings: TypeAlias = CodecSettings | ProxySettings | PreprocessorSettings | TaskSettings | DatasetSettings
Case: TypeAlias = Callable[[Promise], None]

PROMISES: Mapping[str, tuple[Promise, ...]] = {
    "codec": CODEC_PROMISES,
    "proxy": PROXY_PROMISES,
    "preprocessor": PREPROCESSOR_PROMISES,
    "task": TASK_PROMISES,
    "dataset": DATASET_PROMISES,
}  #: the promises of each contract, by kind of component


@dataclass(frozen=True, slots=True)
class _Contract:
    kind: str
    cls: type
    settings: Callable[[], Settings]


_CONTRACTS = (
    _Contract("codec", Codec, CodecSettings),
    _Contract("proxy", ProxyCodec, ProxySettings),
    _Contract("preprocessor", Preprocessor, PreprocessorSettings),
    _Contract("task", TaskModel, TaskSettings),
    _Contract("dataset", TaskDataset, DatasetSettings),
)


def examine(
    component: Made[Codec | ProxyCodec | Preprocessor | TaskModel | TaskDataset],
    settings: Settings | None = None,
    *,
    expected_failures: Excuses = None,
) -> Report:
    """Check every promise of a component's contract and report; broken promises do not raise.

    Args:
        component: an object of one of the five contracts, or a callable without arguments that makes one.
        settings: how to check; None takes the contract's defaults.
        expected_failures: the reason why a promise is not kept, by its number. An excuse for a promise that is kept is
            a failure as well.

    Raises:
        OptionError: the component is of no contract, the settings are another contract's, or an excuse names no promise
            or no reason.

    Example:
        >>> from precomp_sdk.testing import FakeDataset, examine
        >>> examine(FakeDataset()).failures
        ()
    """
    made, contract = _take(component)
    chosen = _settings(contract, settings, made, component)
    return examine_promises(contract.kind, PROMISES[contract.kind], made, chosen, expected_failures)


def check_codec(
    codec: Made[Codec], settings: CodecSettings | None = None, *, expected_failures: Excuses = None
) -> Report:
    """Check every promise of a codec; see `examine`.

    Raises:
        ConformanceError: some are broken; the message lists every one.
    """
    return _checked(codec, settings, expected_failures)


def check_proxy(
    proxy: Made[ProxyCodec], settings: ProxySettings | None = None, *, expected_failures: Excuses = None
) -> Report:
    """Check every promise of a proxy, fitted where it needs that; see `examine`.

    Raises:
        ConformanceError: some are broken; the message lists every one.
    """
    return _checked(proxy, settings, expected_failures)


def check_preprocessor(
    preprocessor: Made[Preprocessor],
    settings: PreprocessorSettings | None = None,
    *,
    expected_failures: Excuses = None,
) -> Report:
    """Check every promise of a preprocessor; see `examine`.

    Raises:
        ConformanceError: some are broken; the message lists every one.
    """
    return _checked(preprocessor, settings, expected_failures)


def check_task(
    task: Made[TaskModel], settings: TaskSettings | None = None, *, expected_failures: Excuses = None
) -> Report:
    """Check every promise of a task; see `examine`.

    Raises:
        ConformanceError: some are broken; the message lists every one.
    """
    return _checked(task, settings, expected_failures)


def check_dataset(
    dataset: Made[TaskDataset], settings: DatasetSettings | None = None, *, expected_failures: Excuses = None
) -> Report:
    """Check every promise of a data set; see `examine`.

    Raises:
        ConformanceError: some are broken; the message lists every one.
    """
    return _checked(dataset, settings, expected_failures)


def codec_cases(
    make: Callable[[], Codec], settings: CodecSettings | None = None, *, expected_failures: Excuses = None
) -> Case:
    """Return a test function for pytest, with one case per promise of a codec.

    The component is made when the first case runs, and once. A promise with an expected failure is reported as xfailed,
    one that does not apply as skipped; where a package that the component needs is missing, all are skipped.

    Args:
        make: the class, or another callable without arguments.
        settings: see `examine`.
        expected_failures: see `examine`.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, codec_cases
        >>> test_conformance = codec_cases(FakeCodec)  # in a file of tests
    """
    return _cases("codec", make, settings, expected_failures)


def proxy_cases(
    make: Callable[[], ProxyCodec], settings: ProxySettings | None = None, *, expected_failures: Excuses = None
) -> Case:
    """Return a test function for pytest, with one case per promise of a proxy; see `codec_cases`."""
    return _cases("proxy", make, settings, expected_failures)


def preprocessor_cases(
    make: Callable[[], Preprocessor],
    settings: PreprocessorSettings | None = None,
    *,
    expected_failures: Excuses = None,
) -> Case:
    """Return a test function for pytest, with one case per promise of a preprocessor; see `codec_cases`."""
    return _cases("preprocessor", make, settings, expected_failures)


def task_cases(
    make: Callable[[], TaskModel], settings: TaskSettings | None = None, *, expected_failures: Excuses = None
) -> Case:
    """Return a test function for pytest, with one case per promise of a task; see `codec_cases`."""
    return _cases("task", make, settings, expected_failures)


def dataset_cases(
    make: Callable[[], TaskDataset], settings: DatasetSettings | None = None, *, expected_failures: Excuses = None
) -> Case:
    """Return a test function for pytest, with one case per promise of a data set; see `codec_cases`."""
    return _cases("dataset", make, settings, expected_failures)


def _checked(component: Any, settings: Settings | None, excuses: Excuses) -> Report:
    report = examine(component, settings, expected_failures=excuses)
    report.raise_if_failed()
    return report


def _take(component: Any) -> tuple[Any, _Contract]:
    """Return the component, made if need be, and its contract."""
    contracts = tuple(contract.cls for contract in _CONTRACTS)
    made = component
    if not isinstance(component, contracts) and callable(component):  # a class, or another factory
        made = component()
    for contract in _CONTRACTS:
        if isinstance(made, contract.cls):
            return made, contract
    raise OptionError(
        where="conformance kit",
        expected=f"an object of {', '.join(cls.__name__ for cls in contracts)}, or a callable that makes one",
        got=type(made).__name__,
        remedy="Derive it from the contract.",
    )


def _settings(contract: _Contract, settings: Settings | None, made: Any, component: Any) -> Settings:
    """Return the settings, with the factory that the component came from."""
    chosen = contract.settings() if settings is None else settings
    if type(chosen) is not contract.settings:
        raise OptionError(
            where=f"conformance kit, {contract.kind}",
            expected=f"settings of type {getattr(contract.settings, '__name__', '')}",
            got=type(chosen).__name__,
            remedy="Give the settings of the component's own contract.",
        )
    return replace(chosen, make=component) if made is not component and chosen.make is None else chosen


def _cases(kind: str, make: Callable[[], Any], settings: Settings | None, excuses: Excuses) -> Case:
    import pytest

    promises = PROMISES[kind]
    known = check_excuses(promises, excuses)

    @cache
    def subject() -> tuple[Any, Settings]:
        made, contract = _take(make)
        return made, _settings(contract, settings, made, make)

    @pytest.mark.parametrize("promise", promises, ids=[promise.id for promise in promises])
    def test_conformance(promise: Promise) -> None:
        try:
            component, chosen = subject()
        except MissingDependencyError as error:
            pytest.skip(str(error))
        finding = examine_promise(promise, component, chosen, known.get(promise.number))
        if finding.outcome is Outcome.NOT_APPLICABLE:
            pytest.skip(finding.detail)
        if finding.outcome is Outcome.EXCUSED:
            pytest.xfail(finding.detail)
        if finding.failed:
            pytest.fail(f"{promise.number} {finding.outcome}: {promise.statement}\n{finding.detail}", pytrace=False)

    return test_conformance
