"""The audit: SQL over the ledger's two tables that says what was accepted, eaten, lost or delivered twice."""

import time
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, literal, select, union_all

from baozi.errors import NothingToAudit
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten, orders

#: How many gaps of missing numbers an audit names for each producer.
_GAPS_NAMED = 5

#: Seconds between two looks at the ledger while an audit waits.
_LOOK_EVERY = 0.2


class Sums(BaseModel):
    """One producer's sums, or all producers'. ``accepted`` is None while an order is not closed.

    ``duplicated`` counts deliveries of what had been eaten before: none of them was eaten again. ``dead`` is
    how many wait in the dead letters, None when the broker was not asked; they are among the ``lost``.
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
    missing: list[tuple[int, int]] = []
    """The first gaps, each as its first and its last number."""


class Audit(BaseModel):
    """A run's sums by producer and in all."""

    model_config = ConfigDict(frozen=True)

    run: str
    producers: list[Sums]
    total: Sums

    @property
    def open_orders(self) -> list[str]:
        """Producers whose order is not closed, so that nobody can say what they got accepted."""
        return [sums.producer for sums in self.producers if sums.accepted is None]

    @property
    def proven(self) -> bool:
        """Whether every order is closed and nothing accepted is missing."""
        return not self.open_orders and self.total.lost == 0


def audit(ledger: Ledger, run: str, dead: Mapping[str, int] | None = None) -> Audit:
    """Do the sums of ``run``; ``dead`` counts its dead letters by producer, where the broker was asked.

    Raises:
        NothingToAudit: neither an order nor a baozi of this run is known, or there is no ledger yet.
        LedgerAway: the ledger cannot be read.
    """
    with ledger.reading() as connection:
        rows = connection.execute(_sums_by_producer(run)).all()
        producers = [_producer_sums(connection, run, row, dead) for row in rows]
    for producer in sorted((dead or {}).keys() - {row.producer for row in rows}):
        producers.append(_only_dead(producer, (dead or {})[producer]))
    if not producers:
        raise NothingToAudit(f"The ledger has nothing of run {run}; see the run's name, or wait with --wait.")
    return Audit(run=run, producers=producers, total=_total(producers))


def settled_audit(
    ledger: Ledger, run: str, dead: Callable[[], Mapping[str, int] | None], wait: float, orders_due: int = 1
) -> Audit:
    """Do the sums when the run has ended: orders closed, and each accepted baozi eaten or dead.

    Args:
        ledger: where to read.
        run: which run.
        dead: asks the broker for the dead letters by producer.
        wait: seconds to wait for the end; past them, the sums as they stand are returned.
        orders_due: how many producers' orders there must be.

    Raises:
        NothingToAudit: nothing of the run was seen within ``wait``.
        LedgerAway: the ledger cannot be read.
    """
    deadline = time.monotonic() + wait
    while True:
        left = deadline - time.monotonic()
        try:
            sums = audit(ledger, run)
            if left <= 0 or (len(sums.producers) >= orders_due and sums.proven):
                return audit(ledger, run, dead())
            if not sums.open_orders and len(sums.producers) >= orders_due:
                with_dead = audit(ledger, run, dead())
                # By producer: another's dead letter, of an unknown fate say, is none that this one lacks.
                settled = all(one.lost in (0, one.dead) for one in with_dead.producers)
                if settled and not with_dead.open_orders:
                    return with_dead
        except NothingToAudit:
            if left <= 0:
                raise
        time.sleep(min(_LOOK_EVERY, max(left, 0)))


_SumsRow = Row[str, int | None, int, int, int, int, int]


def _sums_by_producer(run: str) -> Select[str, int | None, int, int, int, int, int]:
    names = union_all(
        select(orders.c.producer).where(orders.c.run == run),
        select(eaten.c.producer).where(eaten.c.run == run),
    ).subquery()
    producers = select(names.c.producer).distinct().subquery()

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    number = eaten.c.number
    return (
        select(
            producers.c.producer,
            orders.c.accepted,
            func.count(number).label("eaten"),
            count(number < orders.c.accepted).label("ordered"),
            count((number >= orders.c.accepted) & (number < orders.c.attempted)).label("recovered"),
            count(number >= orders.c.attempted).label("unexpected"),
            func.coalesce(func.sum(eaten.c.deliveries - 1), 0).label("duplicated"),
        )
        .select_from(producers)
        .outerjoin(orders, (orders.c.run == run) & (orders.c.producer == producers.c.producer))
        .outerjoin(eaten, (eaten.c.run == run) & (eaten.c.producer == producers.c.producer))
        .group_by(producers.c.producer, orders.c.accepted)
        .order_by(producers.c.producer)
    )


def _producer_sums(connection: Connection, run: str, row: _SumsRow, dead: Mapping[str, int] | None) -> Sums:
    lost = 0 if row.accepted is None else row.accepted - row.ordered
    return Sums(
        producer=row.producer,
        accepted=row.accepted,
        eaten=row.eaten,
        lost=lost,
        duplicated=row.duplicated,
        recovered=row.recovered,
        unexpected=row.unexpected,
        dead=None if dead is None else dead.get(row.producer, 0),
        missing=_gaps(connection, run, row.producer, row.accepted) if lost else [],
    )


def _gaps(connection: Connection, run: str, producer: str, accepted: int) -> list[tuple[int, int]]:
    """The first runs of missing numbers: look at each number's neighbour, between two fences."""
    mine = (eaten.c.run == run) & (eaten.c.producer == producer) & (eaten.c.number < accepted)
    numbers = union_all(
        select(eaten.c.number.label("number")).where(mine), select(literal(-1)), select(literal(accepted))
    ).subquery()
    pairs = select(
        numbers.c.number, func.lead(numbers.c.number).over(order_by=numbers.c.number).label("next")
    )
    pair = pairs.subquery()
    gaps = (
        select(pair.c.number + 1, pair.c.next - 1)
        # Not number + 1: past the last fence, where there is no next, that may be more than a column holds.
        .where(pair.c.next - 1 > pair.c.number)
        .order_by(pair.c.number)
        .limit(_GAPS_NAMED)
    )
    return [(first, last) for first, last in connection.execute(gaps)]


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
    )
