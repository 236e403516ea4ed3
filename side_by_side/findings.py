"""What a comparison found, in whole sentences, made from the results alone."""

from collections import defaultdict

from baozi.language import Sentence, listed
from baozi.quantities import number
from side_by_side.comparison_results import ComparisonResults, Verdict
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.summary import NO_FAULT, UNSTABLE_ABOVE, Row, columns, grid, rows
from side_by_side.transports import TRANSPORTS

#: How many repetitions are proposed if the figures of fewer are unstable.
_REPEAT = 10
_BAD = {Verdict.LOST, Verdict.WEDGED}


def findings(results: ComparisonResults) -> list[Sentence]:
    """Return what became of the accepted baozi, in a few sentences, the best transports first."""
    counted: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, cells in grid(results).items():
        verdicts = [cell.tally.verdict for cell in cells if cell and cell.fault != NO_FAULT]
        bad, twice = sum(it in _BAD for it in verdicts), verdicts.count(Verdict.DUPLICATED)
        counted[bad, 0 if bad else twice, len(verdicts)].append(name)
    sentences = list[Sentence]()
    for (bad, twice, faults), names in sorted(counted.items(), key=lambda it: (it[0][:2], -it[0][2])):
        if faults:
            sentences.append(_finding(_names(names), bad, twice, _faults(faults)))
    return [*sentences, *_without_a_fault(results)]


def _finding(transports: Sentence, bad: int, twice: int, faults: Sentence) -> Sentence:
    fields: dict[str, object] = {"transports": transports, "faults": faults}
    if bad:
        return Sentence(
            "{transports} lost baozi or did not finish under {bad} of {faults}.", bad=bad, **fields
        )
    if twice:
        return Sentence(
            "{transports} lost nothing, and ate some baozi twice under {twice} of {faults}.",
            twice=twice,
            **fields,
        )
    return Sentence("{transports} lost nothing under {faults}.", **fields)


def _without_a_fault(results: ComparisonResults) -> list[Sentence]:
    cells = [cell for line in grid(results).values() for cell in line if cell and cell.fault == NO_FAULT]
    if not cells:
        return []
    wrong = [cell.transport for cell in cells if cell.tally.verdict is not Verdict.SOUND]
    if wrong:
        told = "Without a fault, {transports} did not eat every baozi once by the deadline."
        return [Sentence(told, transports=_names(wrong))]
    return [Sentence("Without a fault, every transport ate every baozi once.")]


def repeat_advice(results: ComparisonResults) -> Sentence | None:
    """Return what to repeat, if some figures are unstable or were measured once; None if there is nothing."""
    unstable = [row.transport for row in rows(results) if _is_unstable(row)]
    if unstable:
        return Sentence(
            "The figures of {transports} differ between repetitions by more than {limit}%. Repeat the"
            " comparison with --repeat {repeat} on a machine that does nothing else.",
            transports=_names(unstable),
            limit=number(100 * UNSTABLE_ABOVE),
            repeat=max(_REPEAT, 2 * results.repeat),
        )
    if any(len(row.eaten.values) == 1 for row in rows(results) if row.eaten):
        return Sentence("The speeds were measured once, so their range is not known. Repeat with --repeat 5.")
    return None


def accepted_below_eaten(results: ComparisonResults) -> Sentence | None:
    """Return why some rates of accepted baozi are below those of eaten baozi; None if there are none."""
    lower = [
        row.transport
        for row in rows(results)
        if row.accepted and row.eaten and row.accepted.median < row.eaten.median
    ]
    if not lower:
        return None
    return Sentence(
        "On {transports}, fewer baozi were accepted per second than eaten. Each rate is counted from its own"
        " first to its own last baozi: the consumers began later and ate what had been made meanwhile.",
        transports=_names(lower),
    )


def why_not_run(results: ComparisonResults, transport: str, fault: str) -> Sentence:
    """Return why a transport has no run under this fault, in one sentence."""
    for one in results.not_run:
        if (one.transport, one.fault) == (transport, fault):
            return Sentence(one.reason)
    if not results.finished:
        return Sentence("The comparison was interrupted before this run.")
    return Sentence("The comparison was not asked for it.")


def transport_meanings(results: ComparisonResults) -> dict[str, str]:
    """Return what each transport of the grid is, in one sentence."""
    return {name: TRANSPORTS[name].what for name in grid(results) if name in TRANSPORTS}


def fault_meanings(results: ComparisonResults) -> dict[str, str]:
    """Return what each fault of the grid does, in one sentence."""
    return {name: COMPARE_FAULTS[name].does for name in columns(results) if name in COMPARE_FAULTS}


def _is_unstable(row: Row) -> bool:
    measured = (row.accepted, row.eaten, row.half, row.p99, row.slowest)
    return any(spread.unstable for spread in measured if spread)


def _names(names: list[str]) -> Sentence:
    last = listed(names[-1:])
    return Sentence("{names} and {last}", names=listed(names[:-1]), last=last) if names[1:] else last


def _faults(count: int) -> Sentence:
    return Sentence("1 fault") if count == 1 else Sentence("{count} faults", count=count)
