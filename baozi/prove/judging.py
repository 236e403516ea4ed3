"""What became of the calls of a trial, the verdict, and the doctor's findings that explain it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from baozi.language import Sentence
from baozi.prove.records import CallHistory


class Judgement(IntEnum):
    """What an app does under a fault, the worst last."""

    SOUND = 0
    REPEATS = 1
    STOPS = 2
    LOSES = 3

    @property
    def word(self) -> str:
        """``sound`` and so on."""
        return self.name.lower()


class LastSeen(StrEnum):
    """Where a lost call was seen for the last time."""

    ACCEPTED = Sentence("accepted, and received by no worker")
    RECEIVED = Sentence("received by a worker, and not started")
    STARTED = Sentence("started, and not finished")
    RETRIED = Sentence("retried, and not started again")


#: The rules that can explain a loss, by the place where the call was last seen.
_EXPLAINS_LOSS = {
    LastSeen.ACCEPTED: ("BZ106", "BZ108", "BZ110", "BZ115", "BZ136"),
    LastSeen.RECEIVED: ("BZ101", "BZ102", "BZ112", "BZ114"),
    LastSeen.STARTED: ("BZ101", "BZ102", "BZ112", "BZ104"),
    LastSeen.RETRIED: ("BZ106", "BZ118", "BZ108", "BZ110"),
}
#: Those that can explain a repetition, and a stop.
_EXPLAINS_REPEAT = ("BZ122", "BZ116", "BZ131", "BZ124")
_EXPLAINS_STOP = ("BZ107", "BZ129", "BZ126", "BZ125", "BZ123", "BZ117", "BZ111")


def last_seen(call: CallHistory) -> LastSeen:
    """Return where a lost call was seen for the last time."""
    if call.retried >= call.started > 0:
        return LastSeen.RETRIED
    if call.started:
        return LastSeen.STARTED
    return LastSeen.RECEIVED if call.received else LastSeen.ACCEPTED


@dataclass
class TrialResult:
    """One try of a fault."""

    fault: str
    target: str = ""
    """What was hit."""
    accepted: int = 0
    refused: int = 0
    """Calls for which ``apply_async`` raised an error. The caller knows it, so they are no loss."""
    unknown: int = 0
    """Calls during which the producer was killed."""
    succeeded: int = 0
    failed: int = 0
    """Calls whose task raised an error by itself."""
    twice: int = 0
    """Calls that succeeded more than once."""
    redelivered: int = 0
    started_again: int = 0
    lost: int = 0
    dead: int = 0
    """Calls that are in a queue that no worker consumes, such as dead letters."""
    waiting: int = 0
    """Calls that are still in a queue of the workers, though nothing happens any more."""
    rows: int | None = None
    """Rows that ``--effect-sql`` counted; None without it."""
    stopped: str = ""
    """What does not go on."""
    lost_at: dict[str, int] = field(default_factory=dict)
    """How many of the lost calls were last seen where."""
    explained_by: list[str] = field(default_factory=list)
    """Ids of the doctor's findings."""
    seconds: float = 0

    @property
    def judgement(self) -> Judgement:
        """The verdict: the worst of what happened."""
        if self.lost:
            return Judgement.LOSES
        if self.stopped or self.waiting:
            return Judgement.STOPS
        return Judgement.REPEATS if self.twice else Judgement.SOUND


def judge(
    result: TrialResult,
    calls: Iterable[CallHistory],
    queued: Mapping[str, bool],
    found: Iterable[str],
) -> TrialResult:
    """Count what became of ``calls``, and return ``result`` with the counts and the explanation.

    Args:
        result: the trial, with its fault, its target and what stopped.
        calls: the calls of its producers.
        queued: the ids that are still in a queue at the end; whether workers consume that queue.
        found: ids of the doctor's findings in this app.
    """
    lost: Counter[LastSeen] = Counter()
    for call in calls:
        result.accepted += call.accepted
        result.refused += bool(call.refused)
        result.unknown += not call.accepted and not call.refused
        result.succeeded += bool(call.succeeded)
        result.failed += bool(call.failed and not call.succeeded)
        result.twice += call.succeeded > 1
        result.redelivered += call.redelivered
        result.started_again += max(0, call.started - 1 - call.retried)
        if call.ended or not call.accepted:
            continue
        if call.id in queued:
            result.waiting += queued[call.id]
            result.dead += not queued[call.id]
        else:
            lost[last_seen(call)] += 1
    result.lost = sum(lost.values())
    result.lost_at = {str(place): number for place, number in lost.items()}
    result.explained_by = explanation(result, lost, set(found))
    return result


def explanation(result: TrialResult, lost: Mapping[LastSeen, int], found: set[str]) -> list[str]:
    """Return the ids of the findings that explain the verdict, the likeliest first."""
    match result.judgement:
        case Judgement.LOSES:
            candidates = [rule for place in lost for rule in _EXPLAINS_LOSS[place]]
        case Judgement.STOPS:
            candidates = [*_EXPLAINS_STOP]
        case Judgement.REPEATS:
            candidates = [*_EXPLAINS_REPEAT]
        case _:
            candidates = []
    return [rule for rule in dict.fromkeys(candidates) if rule in found]


def worst(results: Iterable[TrialResult]) -> Judgement:
    """Return the worst verdict of ``results``."""
    return max((it.judgement for it in results), default=Judgement.SOUND)
