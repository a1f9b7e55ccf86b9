"""Promises, how they are checked, and the report."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from traceback import extract_tb
from typing import Any

import torch

from precomp_sdk.errors import ConformanceError, OptionError, PrecompError, nearest

__all__ = [
    "BrokenPromiseError",
    "Finding",
    "NotApplicableError",
    "Outcome",
    "Promise",
    "Report",
    "promises_of",
    "require",
]


class BrokenPromiseError(AssertionError):
    """A check found that a promise is not kept."""


class NotApplicableError(Exception):
    """A promise says nothing about this component or this machine; the text says why."""


def require(kept: object, told: str) -> None:
    """Go on where a promise is kept.

    Args:
        kept: anything with a truth value.
        told: what was expected and what came instead, for the report.

    Raises:
        BrokenPromiseError: it is not kept.
    """
    if not kept:
        raise BrokenPromiseError(told)


@dataclass(frozen=True, slots=True)
class Promise:
    """One numbered promise of a contract.

    Args:
        number: such as ``"C3"``.
        statement: what is promised, in words.
        check: a plain function of a component and its contract's settings; raises where the promise is not kept.
    """

    number: str
    statement: str
    check: Callable[[Any, Any], None]

    @property
    def id(self) -> str:
        """Number and check in one word, as tests are named."""
        return f"{self.number}-{self.check.__name__.removeprefix('check_').replace('_', '-')}"


def promises_of(*checks: Callable[[Any, Any], None]) -> tuple[Promise, ...]:
    """Return the promises that some checks' docstrings make, each as ``"C3. Statement."``."""
    promises = []
    for check in checks:
        number, _, statement = " ".join((inspect.getdoc(check) or "").split("\n\n")[0].split()).partition(". ")
        promises.append(Promise(number, statement, check))
    return tuple(promises)


class Outcome(StrEnum):
    """How a promise fared."""

    KEPT = "kept"
    BROKEN = "broken"
    EXCUSED = "excused"  #: broken, as was said beforehand
    STALE = "stale excuse"  #: kept, although an excuse says that it is broken: take the excuse away
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one promise.

    Args:
        promise: which.
        outcome: how it fared.
        detail: why, where it was not simply kept.
        seconds: how long the check took.
    """

    promise: Promise
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """True where there is something to mend: a broken promise, or a stale excuse."""
        return self.outcome in (Outcome.BROKEN, Outcome.STALE)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all promises of one component.

    Args:
        kind: ``"codec"``, ``"proxy"``, ``"preprocessor"``, ``"task"`` or ``"dataset"``.
        name: the component's.
        cls: module and name of its class.
        findings: one per promise, in their order.
    """

    kind: str
    name: str
    cls: str
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Every broken promise and every stale excuse."""
        return tuple(finding for finding in self.findings if finding.failed)

    def summary(self) -> str:
        """Return one line per promise that was not simply kept, and one with the count."""
        lines = [
            f"{finding.promise.number} {finding.outcome}: {finding.promise.statement}\n    {finding.detail}"
            for finding in self.findings
            if finding.outcome is not Outcome.KEPT
        ]
        kept = sum(finding.outcome is Outcome.KEPT for finding in self.findings)
        return "\n".join([*lines, f"{self.kind} {self.name!r}: {kept} of {len(self.findings)} promises kept"])

    def as_dict(self) -> dict[str, object]:
        """Return the report in plain values, for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "class": self.cls,
            "failures": len(self.failures),
            "promises": [
                {
                    "number": finding.promise.number,
                    "statement": finding.promise.statement,
                    "outcome": str(finding.outcome),
                    "detail": finding.detail,
                    "seconds": round(finding.seconds, 3),
                }
                for finding in self.findings
            ],
        }

    def raise_if_failed(self) -> None:
        """Do nothing where all is well.

        Raises:
            ConformanceError: a promise is broken, or an excuse is stale; the message lists every one.
        """
        if self.failures:
            told = "".join(
                f"\n  {finding.promise.number} {finding.outcome}: {finding.promise.statement}\n      {finding.detail}"
                for finding in self.failures
            )
            raise ConformanceError(
                where=f"{self.kind} {self.name!r} ({self.cls})",
                expected=f"{len(self.findings)} promises kept",
                got=f"{len(self.failures)} failures:{told}\n",
                remedy="Mend the component, or give the promise's number and the reason in expected_failures.",
            )


def examine_promise(promise: Promise, component: object, settings: object, excuse: str | None = None) -> Finding:
    """Check one promise; nothing that the component does raises.

    The check runs with a random state of its own, so that neither the caller's nor the order of checks matters.

    Args:
        promise: to check.
        component: to check it on.
        settings: of the contract.
        excuse: why the promise is known to be broken, or None.
    """
    started = time.perf_counter()
    outcome, detail = Outcome.KEPT, ""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            promise.check(component, settings)
    except NotApplicableError as reason:
        outcome, detail = Outcome.NOT_APPLICABLE, str(reason)
    except Exception as error:  # whatever a component raises is a broken promise
        outcome, detail = Outcome.BROKEN, _told(error)
    if excuse is not None and outcome is Outcome.BROKEN:
        outcome, detail = Outcome.EXCUSED, f"{excuse} ({detail})"
    elif excuse is not None:
        detail = f"the promise is {outcome}; take away its excuse: {excuse}"
        outcome = Outcome.STALE
    return Finding(promise, outcome, detail, time.perf_counter() - started)


def examine_promises(
    kind: str,
    promises: Sequence[Promise],
    component: object,
    settings: object,
    excuses: Mapping[str, str] | None = None,
) -> Report:
    """Check all promises; see `examine_promise`.

    Raises:
        OptionError: an excuse is for a promise that does not exist, or has no reason.
    """
    excuses = check_excuses(promises, excuses)
    cls = type(component)
    return Report(
        kind=kind,
        name=str(getattr(component, "name", cls.__name__)),
        cls=f"{cls.__module__}.{cls.__qualname__}",
        findings=tuple(
            examine_promise(promise, component, settings, excuses.get(promise.number)) for promise in promises
        ),
    )


def check_excuses(promises: Sequence[Promise], excuses: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the excuses if each names a promise and a reason.

    Raises:
        OptionError: one does not.
    """
    known = [promise.number for promise in promises]
    for number, reason in (excuses or {}).items():
        if number not in known or not isinstance(reason, str) or not reason.strip():
            raise OptionError(
                where=f"expected_failures[{number!r}]",
                expected="the number of a promise, and the reason why it is not kept",
                got=f"{number!r}: {reason!r}",
                remedy="Write the reason." if number in known else nearest(number, known),
            )
    return excuses or {}


def _told(error: Exception) -> str:
    """Return the text of an error; where it is no finding of a check, its type and where it came from as well."""
    if isinstance(error, BrokenPromiseError):
        return str(error)
    frame = extract_tb(error.__traceback__)[-1]
    place = f" ({PurePath(frame.filename).name}:{frame.lineno})"
    return str(error) + place if isinstance(error, PrecompError) else f"{type(error).__name__}: {error}{place}"
