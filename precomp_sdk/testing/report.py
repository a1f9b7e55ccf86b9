"""Running checks on one component, and the report of what came of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from traceback import extract_tb

import torch

from precomp_sdk.errors import ConformanceError, OptionError, PrecompError, nearest
from precomp_sdk.testing.checks import Check, CheckFailedError, NotApplicableError

__all__ = ["Finding", "Outcome", "Report", "check_expected_failures", "run_one_check"]


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    EXPECTED_FAILURE = "expected failure"  #: it failed, as was said beforehand
    STALE = "stale expected failure"  #: it was said to fail and does not: take the expected failure away
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check.

    Args:
        check: which.
        outcome: what came of it.
        detail: why, where it did not simply pass.
        seconds: how long it took.
    """

    check: Check
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """True where there is something to mend: a failure, or an expected failure that is stale."""
        return self.outcome in (Outcome.FAILED, Outcome.STALE)

    def __str__(self) -> str:
        """Return number, outcome, statement and detail, on two lines."""
        told = f"{self.check.number} {self.outcome}: {self.check.statement}"
        return f"{told}\n    {self.detail}" if self.detail else told


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all checks of one component.

    Args:
        kind: ``"codec"``, ``"proxy"``, ``"preprocessor"``, ``"task"`` or ``"dataset"``.
        name: the component's.
        cls: module and name of its class.
        findings: one per check, in their order.
    """

    kind: str
    name: str
    cls: str
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Every failed check and every stale expected failure."""
        return tuple(finding for finding in self.findings if finding.failed)

    def count(self, outcome: Outcome) -> int:
        """Return how many checks came out so."""
        return sum(finding.outcome is outcome for finding in self.findings)

    def summary(self) -> str:
        """Return the checks that did not simply pass, two lines each, and one line with the count of each outcome."""
        told = [str(finding) for finding in self.findings if finding.outcome is not Outcome.PASSED]
        counts = {outcome: self.count(outcome) for outcome in Outcome if outcome is not Outcome.PASSED}
        others = "".join(f", {count} {outcome}" for outcome, count in counts.items() if count)
        passed = f"{self.count(Outcome.PASSED)} of {len(self.findings)} checks passed{others}"
        return "\n".join([*told, f"{self.kind} {self.name!r}: {passed}"])

    def as_dict(self) -> dict[str, object]:
        """Return the report in plain values, for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "class": self.cls,
            "failures": len(self.failures),
            "checks": [
                {
                    "number": finding.check.number,
                    "statement": finding.check.statement,
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
            ConformanceError: a check failed, or an expected failure is stale; the message lists every one.
        """
        if self.failures:
            told = "".join("\n  " + str(finding).replace("\n", "\n  ") for finding in self.failures)
            raise ConformanceError(
                where=f"{self.kind} {self.name!r} ({self.cls})",
                expected=f"{len(self.findings)} checks without a failure",
                got=f"{len(self.failures)} failures:{told}\n",
                remedy="Mend the component, or give the check's number and the reason in expected_failures.",
            )


def run_one_check(check: Check, component: object, settings: object, expected_failure: str | None = None) -> Finding:
    """Run one check; nothing that the component does raises.

    It runs with a random state of its own, so that neither the caller's nor the order of checks matters.

    Args:
        check: to run.
        component: to run it on.
        settings: of the contract.
        expected_failure: why it is known to fail, or None.
    """
    started = time.perf_counter()
    outcome, detail = Outcome.PASSED, ""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            check.run(component, settings)
    except NotApplicableError as reason:
        outcome, detail = Outcome.NOT_APPLICABLE, str(reason)
    except Exception as error:  # whatever a component raises is a failure
        outcome, detail = Outcome.FAILED, _message(error)
    if expected_failure is not None and outcome is Outcome.FAILED:
        outcome, detail = Outcome.EXPECTED_FAILURE, f"{expected_failure} ({detail})"
    elif expected_failure is not None:
        detail = f"the check is {outcome}; take away the expected failure: {expected_failure}"
        outcome = Outcome.STALE
    return Finding(check, outcome, detail, time.perf_counter() - started)


def check_expected_failures(checks: Sequence[Check], expected: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the expected failures if each names a check and a reason.

    Raises:
        OptionError: one does not.
    """
    known = [check.number for check in checks]
    for number, reason in (expected or {}).items():
        if number not in known or not isinstance(reason, str) or not reason.strip():
            raise OptionError(
                where=f"expected_failures[{number!r}]",
                expected="the number of a check, and the reason why it fails",
                got=f"{number!r}: {reason!r}",
                remedy="Write the reason." if number in known else nearest(number, known),
            )
    return expected or {}


def _message(error: Exception) -> str:
    """Return the text of an error; where it is no finding of a check, its type and where it came from as well."""
    if isinstance(error, CheckFailedError):
        return str(error)
    frame = extract_tb(error.__traceback__)[-1]
    place = f" ({PurePath(frame.filename).name}:{frame.lineno})"
    return str(error) + place if isinstance(error, PrecompError) else f"{type(error).__name__}: {error}{place}"
