"""Proves an app: one trial without a fault, then one for each step of the plan."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from baozi.errors import UsageError
from baozi.language import Sentence, listed, translated
from baozi.prove.faults import FAULTS
from baozi.prove.judging import Judgement, TrialResult, judge, worst
from baozi.prove.lab import AppTrial, Lab, NotApplicable
from baozi.prove.plan import NOW, PlannedStep
from baozi.prove.trial import TooLate

#: The name of the trial without a fault.
NO_FAULT = "no fault"
#: Seconds: for the producer's first call; without an event until a trial without a fault is over.
_FIRST_CALL, _QUIET = 60, 10
#: Counts the rows of the user's effect.
Count = Callable[[], int]


@dataclass
class Proof:
    """All trials of one app with one set of settings."""

    results: list[TrialResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Faults that cannot be injected into this app, and why."""

    def of(self, fault: str) -> list[TrialResult]:
        """Return the tries of one fault."""
        return [it for it in self.results if it.fault == fault]

    @property
    def faults(self) -> list[str]:
        """The names of the faults, in the order of their first try."""
        return list(dict.fromkeys(it.fault for it in self.results))

    @property
    def judgement(self) -> Judgement:
        """The worst verdict of all."""
        return worst(self.results)


def prove(
    lab: Lab, steps: Iterable[PlannedStep], say: Callable[[str], Any], count: Count | None = None
) -> Proof:
    """Run the trials.

    Args:
        lab: the app and the broker.
        steps: the plan.
        say: called with a line about each trial.
        count: counts the rows of the user's effect.

    Raises:
        UsageError: the workers do not start, or the task fails without a fault.
    """
    proof = Proof()
    proof.results.append(_without_fault(lab, count))
    say(translated(_line(proof.results[0])))
    for step in steps:
        try:
            result = _with_fault(lab, step, count)
        except NotApplicable as error:
            proof.skipped[step.name] = str(error)
            say(translated("{fault} was skipped: {why}", fault=step.name, why=error))
            continue
        proof.results.append(result)
        say(translated(_line(result)))
    return proof


def _without_fault(lab: Lab, count: Count | None) -> TrialResult:
    with lab.trial() as trial:
        began, rows = time.monotonic(), _rows(count)
        trial.start_producer()
        stopped = trial.settle(_QUIET)
        result = TrialResult(NO_FAULT, "nothing", stopped=stopped)
        _finish(trial, result, began)
        result.rows = _more(rows, count)
        _check(trial, result)
        if trial.records.seconds:
            lab.task_seconds = statistics.median(trial.records.seconds)
        lab.concurrency = sum(it.concurrency for it in trial.records.workers) or 1
    return result


def _check(trial: AppTrial, result: TrialResult) -> None:
    """Check that the app works without a fault.

    Raises:
        UsageError: no call succeeds. The error says why.
    """
    if result.succeeded:
        return
    name = trial.lab.task or "the task that is added"
    calls = list(trial.records.calls.values())
    failed = next((it.failed for it in calls if it.failed), "")
    refused = next((it.refused for it in calls if it.refused), "")
    if failed:
        raise UsageError("Each call of {name} fails without any fault: {failed}", name=name, failed=failed)
    if refused:
        raise UsageError("{name} cannot be called without any fault: {refused}", name=name, refused=refused)
    if not calls:
        raise UsageError("The producer made no call: {stopped}", stopped=result.stopped)
    if not any(it.started for it in calls):
        queues = sorted({name for worker in trial.records.workers for name in worker.queues})
        raise UsageError(
            "No worker starts {name}. The workers consume {listed}.",
            name=name,
            listed=", ".join(queues) or "no queue",
        )
    raise UsageError("No call of {name} ends without any fault in time. Name a shorter task.", name=name)


def _with_fault(lab: Lab, step: PlannedStep, count: Count | None) -> TrialResult:
    fault, chance = FAULTS[step.fault], Random(step.seed)
    with lab.trial(step.call) as trial:
        began, rows = time.monotonic(), _rows(count)
        trial.start_producer()
        result = TrialResult(step.name)
        try:
            _wait_for_moment(trial, step)
            result.target = fault.inject(trial, chance)
        except TooLate as error:
            result.stopped = str(error)
        result.stopped = trial.settle(fault.quiet) or result.stopped
        _finish(trial, result, began)
        result.rows = _more(rows, count)
    return result


def _wait_for_moment(trial: AppTrial, step: PlannedStep) -> None:
    """Wait until the planned part of the calls is under way, so that the fault meets work."""
    enough = max(1, round(step.after * trial.count))

    def under_way() -> bool:
        calls = trial.records.calls.values()
        return sum(bool(it.started if step.call == NOW else it.accepted) for it in calls) >= enough

    trial.wait_until(under_way, f"{enough} calls", _FIRST_CALL + 3 * trial.lab.task_seconds * trial.count)


def _finish(trial: AppTrial, result: TrialResult, began: float) -> None:
    queued = trial.queued()
    trial.records.refresh()
    judge(result, trial.records.calls.values(), queued, trial.lab.findings)
    result.seconds = time.monotonic() - began


def _rows(count: Count | None) -> int | None:
    return count() if count is not None else None


def _more(before: int | None, count: Count | None) -> int | None:
    return count() - before if count is not None and before is not None else None


def _line(result: TrialResult) -> Sentence:
    counts = listed(
        Sentence(template, count=count)
        for template, count in (
            (Sentence("{count} accepted"), result.accepted),
            (Sentence("{count} succeeded"), result.succeeded),
            (Sentence("{count} lost"), result.lost),
            (Sentence("{count} twice"), result.twice),
            (Sentence("{count} failed"), result.failed),
            (Sentence("{count} waiting"), result.waiting),
        )
        if count or "accepted" in template or "succeeded" in template
    )
    line = Sentence(
        "{fault}: {verdict}, {counts}",
        fault=Sentence(result.fault),
        verdict=Sentence(result.judgement.word),
        counts=counts,
    )
    return Sentence("{line}. {more}", line=line, more=Sentence(result.stopped)) if result.stopped else line


def limited(
    steps: Iterator[PlannedStep], length: int, times: int | None, seconds: float | None
) -> Iterator[PlannedStep]:
    """Return the steps of a proof.

    Args:
        steps: all of them, without an end.
        length: the number of steps in one round.
        times: the number of rounds.
        seconds: no step begins later, and the rounds are not counted; None for no limit.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    for number, step in enumerate(steps):
        if deadline is None and number >= length * (times or 1):
            return
        if deadline is not None and time.monotonic() > deadline:
            return
        yield step
