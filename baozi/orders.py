"""The orders of a run and their sums, for the audit.

An order is known by its messages (the ledger's ``orders`` and ``order_sessions``), by the baozi that name it
(``eaten``), by its producer's journal, and by dead letters.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, func, literal, literal_column, select, union_all

from baozi.ledger_schema import eaten, order_sessions, orders, refused
from baozi.model import NO_ORDER
from baozi.progress import Progress

#: Rows that are in memory at once: an audit of millions must not hold them all.
_IN_PIECES = {"yield_per": 1000}

#: Numbers from the first to the last.
Range = tuple[int, int]


@dataclass
class Account:
    """One order: what was accepted, and what was eaten of it."""

    producer: str
    order_id: str
    opened: int = 0
    """The last session that was opened, as the ledger was told; 0 if it was told nothing."""
    closed: int = 0
    """The last session that was closed, as the ledger was told."""
    attempted: int = 0
    """Numbers below this were attempted."""
    ranges: list[Range] = field(default_factory=list)
    """The numbers that were accepted, as ascending ranges."""
    journal_opened: int = 0
    journal_closed: int = 0
    """The same sessions by the producer's journal."""
    eaten: int = 0
    duplicated: int = 0
    largest: int = -1
    """The largest number that was eaten."""
    lost: int = 0
    recovered: int = 0
    unexpected: int = 0

    @property
    def open(self) -> bool:
        """Whether it is not known of the last session what was accepted in it."""
        last = max(self.opened, self.journal_opened)
        return max(self.closed, self.journal_closed) < max(last, 1)

    @property
    def untold(self) -> bool:
        """Whether the journal knows of a session's end that the ledger was not told of."""
        return not self.open and self.closed < self.journal_closed

    @property
    def accepted(self) -> int:
        """How many were accepted, as far as it is known."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def empty(self) -> bool:
        """Whether it was closed without a single baozi."""
        return not (self.open or self.attempted or self.eaten)

    def add_journal(self, progress: Progress) -> None:
        """Add the progress in the producer's journal."""
        # An order without an id has no sessions: its journal tells what was accepted, not when it was closed.
        self.journal_opened, self.journal_closed = progress.session, progress.closed_session
        self.attempted = max(self.attempted, progress.attempted)
        self.ranges = _union(self.ranges, progress.accepted_ranges)

    def accepts(self, number: int) -> bool:
        """Whether ``number`` was accepted."""
        place = bisect_right(self.ranges, number, key=lambda one: one[0]) - 1
        return place >= 0 and number <= self.ranges[place][1]


class Records:
    """What a ledger has recorded of one run, read over one connection; empty if there is no ledger."""

    def __init__(self, connection: Connection | None, run: str) -> None:
        """Read the run's orders."""
        self._connection = connection
        self._run = run
        self.told = list(_told(connection, run)) if connection else []
        self._home: dict[str, str] = {}
        for account in self.told:
            first = self._home.get(account.producer, account.order_id)
            self._home[account.producer] = min(first, account.order_id)

    def eaten(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield each producer and order with how many were eaten, delivered again, and the largest number."""
        if self._connection is None:
            return
        # Rows that a worker of an older release wrote name no order: they count for the producer's first.
        told = union_all(
            select(orders.c.producer, literal(NO_ORDER).label("order_id")).where(orders.c.run == self._run),
            select(order_sessions.c.producer, order_sessions.c.order_id).where(
                order_sessions.c.run == self._run
            ),
        ).subquery()
        home = (
            select(told.c.producer, func.min(told.c.order_id).label("order_id"))
            .group_by(told.c.producer)
            .subquery()
        )
        order_id = func.coalesce(eaten.c.order_id, home.c.order_id, literal_column("''"))
        yield from self._connection.execute(
            select(
                eaten.c.producer,
                order_id,
                func.count(),
                func.sum(eaten.c.deliveries - 1),
                func.max(eaten.c.number),
            )
            .select_from(eaten)
            .outerjoin(home, home.c.producer == eaten.c.producer)
            .where(eaten.c.run == self._run)
            .group_by(eaten.c.producer, order_id)
        )

    def refused(self) -> dict[str, int]:
        """How many baozi of each producer were not eaten since their number was another order's."""
        if self._connection is None:
            return {}
        counts = (
            select(refused.c.producer, func.count().label("number"))
            .where(refused.c.run == self._run)
            .group_by(refused.c.producer)
        )
        return {row.producer: row.number for row in self._connection.execute(counts)}

    def count(self, account: Account, first: int, last: int) -> int:
        """How many of the order's numbers from ``first`` to ``last`` were eaten."""
        if self._connection is None or first > last:
            return 0
        numbers = self._mine(account) & eaten.c.number.between(first, last)
        return self._connection.execute(select(func.count()).where(numbers)).scalar_one()

    def numbers(self, account: Account, first: int, last: int) -> Iterator[int]:
        """Yield which of the order's numbers from ``first`` to ``last`` were eaten."""
        if self._connection is not None and first <= last:
            numbers = self._mine(account) & eaten.c.number.between(first, last)
            statement = select(eaten.c.number).where(numbers)
            with self._connection.execute(statement, execution_options=_IN_PIECES) as found:
                yield from found.scalars()

    def missing(self, account: Account) -> Iterator[Range]:
        """Yield the ranges of numbers that were accepted and not eaten, in ascending order."""
        for first, last in self._gaps(account):
            for begin, end in account.ranges:
                if begin <= last and end >= first:
                    yield max(first, begin), min(last, end)

    def _gaps(self, account: Account) -> Iterator[Range]:
        """Look at each eaten number's neighbour, between two fences."""
        if self._connection is None:
            yield 0, account.attempted - 1
            return
        mine = self._mine(account) & (eaten.c.number < account.attempted)
        numbers = union_all(
            select(eaten.c.number.label("number")).where(mine),
            select(literal(-1)),
            select(literal(account.attempted)),
        ).subquery()
        pair = select(
            numbers.c.number, func.lead(numbers.c.number).over(order_by=numbers.c.number).label("next")
        ).subquery()
        gaps = (
            select(pair.c.number + 1, pair.c.next - 1)
            # Not number + 1: past the last fence, which has no next, that may be more than a column holds.
            .where(pair.c.next - 1 > pair.c.number)
            .order_by(pair.c.number)
        )
        # A reader may have had enough of them: the server's cursor is closed all the same.
        with self._connection.execute(gaps, execution_options=_IN_PIECES) as found:
            yield from found

    def _mine(self, account: Account) -> ColumnElement[bool]:
        home = self._home.get(account.producer, NO_ORDER)
        order_id = func.coalesce(eaten.c.order_id, home)
        of_producer = (eaten.c.run == self._run) & (eaten.c.producer == account.producer)
        return of_producer & (order_id == account.order_id)


def _told(connection: Connection, run: str) -> Iterator[Account]:
    """Yield the orders that were closed or opened by a message."""
    of = orders.c
    without_id = select(of.producer, of.accepted, of.attempted).where(of.run == run)
    for producer, accepted, attempted in connection.execute(without_id):
        yield Account(producer, NO_ORDER, 1, 1, attempted, [(0, accepted - 1)] if accepted else [])
    for row in connection.execute(select(order_sessions).where(order_sessions.c.run == run)):
        unknown = [(first, last) for first, last in json.loads(row.unknown)]
        ranges = _complement(unknown, row.attempted)
        yield Account(row.producer, row.order_id, row.opened, row.closed, row.attempted, ranges)


def accounts(
    records: Records, journals: Sequence[Progress], dead: Collection[tuple[str, str]]
) -> Mapping[str, list[Account]]:
    """Return each known order with its sums, by producer."""
    found = {(account.producer, account.order_id): account for account in records.told}

    def of(producer: str, order_id: str) -> Account:
        return found.setdefault((producer, order_id), Account(producer, order_id))

    for progress in journals:
        of(progress.producer, progress.order_id).add_journal(progress)
    for producer, order_id, count, again, largest in records.eaten():
        account = of(producer, order_id)
        account.eaten, account.duplicated, account.largest = count, again, largest
    for producer, order_id in dead:
        if order_id != NO_ORDER:
            of(producer, order_id)
    by_producer = defaultdict(list)
    for _, account in sorted(found.items()):
        _sum(account, records)
        by_producer[account.producer].append(account)
    return by_producer


def _sum(account: Account, records: Records) -> None:
    """Divide the eaten baozi into accepted, unknown and never attempted."""
    beyond = 0
    if account.largest >= account.attempted:
        beyond = account.eaten - records.count(account, 0, account.attempted - 1)
    unknown = _complement(account.ranges, account.attempted)
    if unknown:
        first, last = unknown[0][0], unknown[-1][1]
        if first == 0 and last == account.attempted - 1 and not account.ranges:
            account.recovered = account.eaten - beyond
        else:
            account.recovered = sum(
                not account.accepts(number) for number in records.numbers(account, first, last)
            )
    account.lost = account.accepted - (account.eaten - beyond - account.recovered)
    if account.open:
        # What its producer attempted and did for this session is not known yet.
        account.recovered = 0
    else:
        account.unexpected = beyond


def _complement(ranges: Sequence[Range], end: int) -> list[Range]:
    """Return the numbers below ``end`` that are in none of the ascending ``ranges``."""
    rest, following = [], 0
    for first, last in ranges:
        if following < first:
            rest.append((following, first - 1))
        following = last + 1
    if following < end:
        rest.append((following, end - 1))
    return rest


def _union(some: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return the numbers that are in one of two lists of ascending ranges, or in both."""
    union: list[Range] = []
    for first, last in sorted([*some, *others]):
        if union and first <= union[-1][1] + 1:
            union[-1] = (union[-1][0], max(union[-1][1], last))
        else:
            union.append((first, last))
    return union
