"""The audit: compares the ledger with the producers' journals, and counts what was lost or delivered twice.

docs/audit.md describes its model: its sources, and what follows from them.
"""

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from math import inf

from pydantic import BaseModel, ConfigDict, computed_field

from baozi.errors import NothingToAudit
from baozi.language import Sentence
from baozi.ledger import Ledger
from baozi.model import NO_ORDER
from baozi.order_sums import Account, Range, Records, accounts
from baozi.progress import Progress

#: How many gaps of missing numbers an audit names for each producer.
_GAPS_NAMED = 5

#: Seconds between two queries of the ledger while an audit waits, and between two readings of all dead
#: letters.
_POLL_EVERY, _POLL_DEAD_LETTERS_EVERY = 0.2, 1

#: The limit of the last query: at least so many seconds, and so many times as long as the one before.
_LAST_POLL, _TIMES_AS_LONG = 2, 3


class Sums(BaseModel):
    """The sums of one producer, or of all. ``accepted`` is None while an order is not closed.

    ``duplicated`` counts repeated deliveries of baozi that had been eaten; none was eaten again. ``dead`` is
    the number of dead letters, None if the broker was not asked; they are also counted as ``lost``.
    ``refused`` counts baozi that were not eaten because another order of that name had their number; they are
    also counted as ``lost``, and as ``dead`` until they are removed from the dead letters.
    """

    model_config = ConfigDict(frozen=True)

    producer: str
    accepted: int | None
    eaten: int
    lost: int
    duplicated: int
    recovered: int
    unexpected: int
    dead: int | None
    missing: list[Range] = []
    """The first gaps, each as its first and its last number."""
    refused: int = 0


class Audit(BaseModel):
    """A run's sums, by producer and in total."""

    model_config = ConfigDict(frozen=True)

    run: str
    producers: list[Sums]
    total: Sums
    shared_names: list[str] = []
    """Producers whose name several orders use, on two machines or because the first one's journal is gone."""
    untold: list[str] = []
    """Producers with an order that is closed by the journal, but not by the ledger."""
    absent: list[str] = []
    """Producers that must have an order and have none."""
    orders_due: int = 0
    """How many producers must have an order."""
    dead_reason: str | None = None
    """Why the broker could not be asked for the dead letters."""

    @property
    def open_orders(self) -> list[str]:
        """Producers with an order that is not closed, so that it is unknown what was accepted."""
        return [sums.producer for sums in self.producers if sums.accepted is None]

    @computed_field  # type: ignore[prop-decorator]  # mypy takes no decorated property
    @property
    def problems(self) -> list[str]:
        """Why this audit does not prove the run, as sentences. Empty if it does."""
        total = self.total
        found: list[str] = []
        if self.open_orders:
            found.append(Sentence("Not closed: the order of {names}.", names=", ".join(self.open_orders)))
        if self.untold:
            found.append(
                Sentence(
                    "Closed according to the journal, but not according to the ledger: the order of {names}."
                    " Its last message is still on its way or was lost, or the ledger was restored from a"
                    " backup.",
                    names=", ".join(self.untold),
                )
            )
        if total.lost:
            found.append(Sentence("Lost: {count} accepted and not eaten.", count=total.lost))
        if total.unexpected:
            found.append(
                Sentence("Unexpected: {count} eaten that no order has attempted.", count=total.unexpected)
            )
        if self.shared_names:
            found.append(
                Sentence("Several orders have the same name: {names}.", names=", ".join(self.shared_names))
            )
        if self.absent:
            found.append(Sentence("Nothing is known of {names}.", names=", ".join(self.absent)))
        if len(self.producers) < self.orders_due:
            found.append(
                Sentence(
                    "Producers with an order: {count}, expected: {due}.",
                    count=len(self.producers),
                    due=self.orders_due,
                )
            )
        return found

    @computed_field  # type: ignore[prop-decorator]  # mypy takes no decorated property
    @property
    def proven(self) -> bool:
        """Whether all orders are closed, all accepted baozi were eaten, and no others were."""
        return not self.problems


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of a run, from the broker."""

    by_producer: Mapping[str, int] | None
    """How many different baozi of each producer are dead-lettered. None if the broker could not be asked."""
    orders: Collection[tuple[str, str]] = ()
    """Producer and order id of each order that has dead letters."""
    reason: str | None = None
    """Why the broker could not be asked."""


#: The dead letters as a parameter of an audit: also only their counts, or None if the broker was not asked.
Dead = DeadLetters | Mapping[str, int] | None


def audit(
    ledger: Ledger,
    run: str,
    dead: Dead = None,
    journals: Sequence[Progress] = (),
    orders_due: int = 0,
    names_due: Sequence[str] = (),
) -> Audit:
    """Return the audit of ``run``.

    Args:
        ledger: the ledger.
        run: the run's name.
        dead: its dead letters by producer, if the broker was asked.
        journals: the progress in the producers' journals.
        orders_due: how many producers must have an order.
        names_due: names of producers that must have an order.

    Raises:
        NothingToAudit: neither an order nor a baozi of this run is known, or there is no ledger yet.
        LedgerError: the ledger cannot be read.
    """
    letters = dead if isinstance(dead, DeadLetters) else DeadLetters(dead)
    counts = letters.by_producer
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(ledger.reading())
        except NothingToAudit:
            if not journals:
                raise
            connection = None
        records = Records(connection, run)
        refused = records.refused()
        found = accounts(records, journals, letters.orders)
        producers = [
            _sums(name, own, counts, refused.get(name, 0), records) for name, own in sorted(found.items())
        ]
    for producer in sorted((counts or {}).keys() - found.keys()):
        producers.append(_only_dead(producer, (counts or {})[producer]))
    if not producers:
        raise NothingToAudit(
            "The ledger has nothing of run {run}. Check the run's name, or wait with --wait.", run=run
        )
    known = {one.producer for one in producers}
    return Audit(
        run=run,
        producers=producers,
        total=_total(producers),
        shared_names=[
            name
            for name, own in sorted(found.items())
            if name in refused or sum(not account.empty for account in own) > 1
        ],
        untold=[name for name, own in sorted(found.items()) if any(account.untold for account in own)],
        absent=[name for name in dict.fromkeys(names_due) if name not in known],
        orders_due=orders_due,
        dead_reason=letters.reason,
    )


def settled_audit(
    ledger: Ledger,
    run: str,
    dead: Callable[[], Dead],
    wait: float,
    orders_due: int = 1,
    journals: Callable[[], Sequence[Progress]] = lambda: (),
    names_due: Sequence[str] = (),
) -> Audit:
    """Return the audit of ``run`` after it has ended: orders closed, and each accepted baozi eaten or dead.

    Args:
        ledger: the ledger.
        run: the run's name.
        dead: asks the broker for the dead letters by producer.
        wait: seconds to wait for the end. After them the present sums are returned.
        orders_due: how many producers must have an order.
        journals: reads the producers' journals.
        names_due: names of producers that must have an order.

    Raises:
        NothingToAudit: nothing of the run was seen within ``wait``.
        LedgerError: the ledger cannot be read.
        JournalAway: a journal cannot be read.
    """
    deadline = time.monotonic() + wait
    ask_at = took = 0.0

    def sums(letters: Dead) -> Audit:
        nonlocal took
        began = time.monotonic()
        # A server that hangs is not waited for much beyond the deadline.
        bound = max(deadline - began, _LAST_POLL, took * _TIMES_AS_LONG) if wait else inf
        with ledger.patient_for(bound):
            found = audit(ledger, run, letters, journals(), orders_due, names_due)
        took = time.monotonic() - began
        return found

    while True:
        left = deadline - time.monotonic()
        try:
            # The dead letters are asked for once the rest has ended: to look through them takes time.
            now = None if left <= 0 else sums(None)
            if now is None or (_ended(now) and time.monotonic() >= ask_at):
                letters = dead()
                with_dead = sums(letters)
                unknown = _only_in_letters(letters, now)
                if left <= 0 or (_ended(with_dead, unknown) and _settled(with_dead)):
                    return with_dead
                ask_at = time.monotonic() + _POLL_DEAD_LETTERS_EVERY
        except NothingToAudit:
            if left <= 0:
                raise
        time.sleep(min(_POLL_EVERY, max(left, 0)))


def _ended(sums: Audit, unknown: Collection[str] = ()) -> bool:
    """Return whether all orders exist and are closed, except those of the producers ``unknown``."""
    there = len(sums.producers) >= sums.orders_due and not sums.absent
    return there and set(sums.open_orders) <= set(unknown) and not sums.untold


def _only_in_letters(dead: Dead, sums: Audit | None) -> set[str]:
    """Return the producers that are only known from dead letters without an order.

    They are other clients, which send no closing message.
    """
    letters = dead if isinstance(dead, DeadLetters) else DeadLetters(dead)
    known = {one.producer for one in sums.producers} if sums else set()
    with_order = {producer for producer, order_id in letters.orders if order_id != NO_ORDER}
    return set(letters.by_producer or {}) - known - with_order


def _settled(sums: Audit) -> bool:
    # For each producer, because a dead letter of one producer does not explain a lost baozi of another.
    return all(one.lost <= (one.dead or 0) for one in sums.producers)


def _sums(
    producer: str, own: Sequence[Account], dead: Mapping[str, int] | None, refused: int, records: Records
) -> Sums:
    is_open = any(account.open for account in own)
    lost = sum(account.lost for account in own)
    return Sums(
        producer=producer,
        accepted=None if is_open else sum(account.accepted for account in own),
        eaten=sum(account.eaten for account in own),
        lost=lost,
        duplicated=sum(account.duplicated for account in own),
        recovered=sum(account.recovered for account in own),
        unexpected=sum(account.unexpected for account in own),
        dead=None if dead is None else dead.get(producer, 0),
        missing=_first(_missing(own, records)),
        refused=refused,
    )


def _first(gaps: Generator[Range]) -> list[Range]:
    with closing(gaps):
        return list(islice(gaps, _GAPS_NAMED))


def _missing(own: Sequence[Account], records: Records) -> Generator[Range]:
    for account in own:
        if account.lost:
            yield from records.missing(account)


def _only_dead(producer: str, count: int) -> Sums:
    return Sums(
        producer=producer, accepted=None, eaten=0, lost=0, duplicated=0, recovered=0, unexpected=0, dead=count
    )


def _total(producers: list[Sums]) -> Sums:
    accepted = [sums.accepted for sums in producers]
    dead = [sums.dead for sums in producers]
    return Sums(
        producer="all",
        accepted=None if None in accepted else sum(count or 0 for count in accepted),
        eaten=sum(sums.eaten for sums in producers),
        lost=sum(sums.lost for sums in producers),
        duplicated=sum(sums.duplicated for sums in producers),
        recovered=sum(sums.recovered for sums in producers),
        unexpected=sum(sums.unexpected for sums in producers),
        dead=None if None in dead else sum(count or 0 for count in dead),
        refused=sum(sums.refused for sums in producers),
    )
