"""For the audit: finds the orders of a run and counts, for each, what was accepted, eaten and lost.

Four sources name an order: its own messages (the ledger's tables ``orders`` and ``order_sessions``), the
baozi that were eaten (table ``eaten``), its producer's journal, and dead letters.
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

#: How many rows are in memory at once, because a run can have millions.
_IN_PIECES = {"yield_per": 1000}

#: The first and the last of consecutive numbers.
Range = tuple[int, int]


@dataclass
class Account:
    """One order with its counts. A session is the time from one opening of the order to its closing."""

    producer: str
    order_id: str
    opened: int = 0
    """The last session that was opened, by the ledger; 0 if the ledger has none."""
    closed: int = 0
    """The last session that was closed, by the ledger; 0 if the ledger has none."""
    attempted: int = 0
    """Numbers below this were attempted."""
    ranges: list[Range] = field(default_factory=list)
    """The numbers that were accepted, as ascending ranges."""
    journal_opened: int = 0
    """The last session that was opened, by the producer's journal."""
    journal_closed: int = 0
    """The last session that was closed, by the producer's journal."""
    eaten: int = 0
    """How many baozi were eaten."""
    duplicated: int = 0
    """How many deliveries of baozi were repeated."""
    largest: int = -1
    """The largest number that was eaten; -1 for none."""
    lost: int = 0
    """How many were accepted and not eaten."""
    recovered: int = 0
    """How many were eaten although it is unknown whether the broker accepted them."""
    unexpected: int = 0
    """How many were eaten although they were never attempted."""

    @property
    def open(self) -> bool:
        """Whether the last session is not closed, so that it is unknown what was accepted in it."""
        last = max(self.opened, self.journal_opened)
        return max(self.closed, self.journal_closed) < max(last, 1)

    @property
    def untold(self) -> bool:
        """Whether the journal has the end of a session that the ledger does not have."""
        return not self.open and self.closed < self.journal_closed

    @property
    def accepted(self) -> int:
        """How many are known to be accepted."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def empty(self) -> bool:
        """Whether it is closed and has no baozi."""
        return not (self.open or self.attempted or self.eaten)

    def add_journal(self, progress: Progress) -> None:
        """Add the progress in the producer's journal."""
        # An order without an id has no sessions: its journal does not say whether it is closed.
        self.journal_opened, self.journal_closed = progress.session, progress.closed_session
        self.attempted = max(self.attempted, progress.attempted)
        self.ranges = _union(self.ranges, progress.accepted_ranges)

    def accepts(self, number: int) -> bool:
        """Whether ``number`` was accepted."""
        place = bisect_right(self.ranges, number, key=lambda one: one[0]) - 1
        return place >= 0 and number <= self.ranges[place][1]


class Records:
    """The ledger's rows of one run, read over one connection."""

    def __init__(self, connection: Connection | None, run: str) -> None:
        """Read the orders of ``run`` from the ledger.

        Args:
            connection: a connection to the ledger. None if there is no ledger; then there are no rows.
            run: the name of the run.
        """
        self._connection = connection
        self._run = run
        self.told = list(_told(connection, run)) if connection else []
        self._home: dict[str, str] = {}
        for account in self.told:
            first = self._home.get(account.producer, account.order_id)
            self._home[account.producer] = min(first, account.order_id)

    def eaten(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield for each order producer, order id, baozi eaten, repeated deliveries and largest number."""
        if self._connection is None:
            return
        # Rows of workers of an older release name no order. They count for the producer's first order.
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
        """Return for each producer how many baozi were refused because another order has their number."""
        if self._connection is None:
            return {}
        counts = (
            select(refused.c.producer, func.count().label("number"))
            .where(refused.c.run == self._run)
            .group_by(refused.c.producer)
        )
        return {row.producer: row.number for row in self._connection.execute(counts)}

    def count(self, account: Account, first: int, last: int) -> int:
        """Return how many of the order's numbers from ``first`` to ``last`` were eaten."""
        if self._connection is None or first > last:
            return 0
        numbers = self._mine(account) & eaten.c.number.between(first, last)
        return self._connection.execute(select(func.count()).where(numbers)).scalar_one()

    def numbers(self, account: Account, first: int, last: int) -> Iterator[int]:
        """Yield the order's numbers from ``first`` to ``last`` that were eaten."""
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
        """Yield the ranges of numbers below ``attempted`` that were not eaten.

        The query compares each eaten number with the next one. The numbers -1 and ``attempted`` stand at the
        two ends.
        """
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
            # Not number + 1, which could be too large for the column at the last number, which has no next.
            .where(pair.c.next - 1 > pair.c.number)
            .order_by(pair.c.number)
        )
        # The caller may stop early. The block closes the server's cursor then too.
        with self._connection.execute(gaps, execution_options=_IN_PIECES) as found:
            yield from found

    def _mine(self, account: Account) -> ColumnElement[bool]:
        home = self._home.get(account.producer, NO_ORDER)
        order_id = func.coalesce(eaten.c.order_id, home)
        of_producer = (eaten.c.run == self._run) & (eaten.c.producer == account.producer)
        return of_producer & (order_id == account.order_id)


def _told(connection: Connection, run: str) -> Iterator[Account]:
    """Yield the orders whose opening or closing message is recorded in the ledger."""
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
    """Return the run's orders with their counts, by producer.

    Args:
        records: the ledger's rows of the run.
        journals: the progress in the producers' journals.
        dead: producer and order id of each order that has dead letters.
    """
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
    """Count the lost, recovered and unexpected baozi of ``account``."""
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
        # It is not known yet what the producer attempted in this session.
        account.recovered = 0
    else:
        account.unexpected = beyond


def _complement(ranges: Sequence[Range], end: int) -> list[Range]:
    """Return, as ranges, the numbers below ``end`` that are in none of the ascending ``ranges``."""
    rest, following = [], 0
    for first, last in ranges:
        if following < first:
            rest.append((following, first - 1))
        following = last + 1
    if following < end:
        rest.append((following, end - 1))
    return rest


def _union(some: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Return the union of two lists of ascending ranges, as ascending ranges."""
    union: list[Range] = []
    for first, last in sorted([*some, *others]):
        if union and first <= union[-1][1] + 1:
            union[-1] = (union[-1][0], max(union[-1][1], last))
        else:
            union.append((first, last))
    return union
