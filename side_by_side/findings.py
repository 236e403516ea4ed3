"""What a comparison found, in whole sentences, made from the results alone."""

from collections import defaultdict

from baozi.quantities import number
from side_by_side.comparison_results import ComparisonResults, Verdict
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.summary import NO_FAULT, UNSTABLE_ABOVE, Row, columns, grid, rows
from side_by_side.transports import TRANSPORTS

#: How many repetitions are proposed if the figures of fewer are unstable.
_REPEAT = 10
_BAD = {Verdict.LOST, Verdict.WEDGED}


def findings(results: ComparisonResults) -> list[str]:
    """Return what became of the accepted baozi, in a few sentences, the best transports first."""
    counted: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, cells in grid(results).items():
        verdicts = [cell.tally.verdict for cell in cells if cell and cell.fault != NO_FAULT]
        bad, twice = sum(it in _BAD for it in verdicts), verdicts.count(Verdict.DUPLICATED)
        counted[bad, 0 if bad else twice, len(verdicts)].append(name)
    sentences = []
    for (bad, twice, faults), names in sorted(counted.items(), key=lambda it: (it[0][:2], -it[0][2])):
        who, under = _names(names), _faults(faults)
        if not faults:
            continue
        if bad:
            sentences.append(f"{who} lost baozi or did not finish under {bad} of {under}.")
        elif twice:
            sentences.append(f"{who} lost nothing, and ate some baozi twice under {twice} of {under}.")
        else:
            sentences.append(f"{who} lost nothing under {under}.")
    return [*sentences, *_without_a_fault(results)]


def _without_a_fault(results: ComparisonResults) -> list[str]:
    cells = [cell for line in grid(results).values() for cell in line if cell and cell.fault == NO_FAULT]
    if not cells:
        return []
    wrong = [cell.transport for cell in cells if cell.tally.verdict is not Verdict.SOUND]
    if wrong:
        return [f"Without a fault, {_names(wrong)} did not eat every baozi once by the deadline."]
    return ["Without a fault, every transport ate every baozi once."]


def repeat_advice(results: ComparisonResults) -> str | None:
    """Return what to repeat, if some figures are unstable or were measured once; None if there is nothing."""
    unstable = [row.transport for row in rows(results) if _is_unstable(row)]
    if unstable:
        return (
            f"The figures of {_names(unstable)} differ between repetitions by more than"
            f" {number(100 * UNSTABLE_ABOVE)}%. Repeat the comparison with"
            f" --repeat {max(_REPEAT, 2 * results.repeat)} on a machine that does nothing else."
        )
    if any(len(row.eaten.values) == 1 for row in rows(results) if row.eaten):
        return "The speeds were measured once, so their range is not known. Repeat with --repeat 5."
    return None


def accepted_below_eaten(results: ComparisonResults) -> str | None:
    """Return why some rates of accepted baozi are below those of eaten baozi; None if there are none."""
    lower = [
        row.transport
        for row in rows(results)
        if row.accepted and row.eaten and row.accepted.median < row.eaten.median
    ]
    if not lower:
        return None
    return (
        f"On {_names(lower)}, fewer baozi were accepted per second than eaten. Each rate is counted from its"
        " own first to its own last baozi: the consumers began later and ate what had been made meanwhile."
    )


def why_not_run(results: ComparisonResults, transport: str, fault: str) -> str:
    """Return why a transport has no run under this fault, in one sentence."""
    for one in results.not_run:
        if (one.transport, one.fault) == (transport, fault):
            return one.reason
    if not results.finished:
        return "The comparison was interrupted before this run."
    return "The comparison was not asked for it."


def transport_meanings(results: ComparisonResults) -> dict[str, str]:
    """Return what each transport of the grid is, in one sentence."""
    return {name: TRANSPORTS[name].what for name in grid(results) if name in TRANSPORTS}


def fault_meanings(results: ComparisonResults) -> dict[str, str]:
    """Return what each fault of the grid does, in one sentence."""
    return {name: COMPARE_FAULTS[name].does for name in columns(results) if name in COMPARE_FAULTS}


def _is_unstable(row: Row) -> bool:
    measured = (row.accepted, row.eaten, row.half, row.p99, row.slowest)
    return any(spread.unstable for spread in measured if spread)


def _names(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _faults(how_many: int) -> str:
    return "1 fault" if how_many == 1 else f"{how_many} faults"
