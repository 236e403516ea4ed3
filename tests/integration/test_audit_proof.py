"""The proof of the proof: the sums in SQL beside sums over multisets, in which nothing is clever."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from baozi.audit import Sums, audit
from baozi.errors import NothingToAudit
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten, orders
from baozi.ledger_url import file_url
from baozi.model import Baozi, Closing
from tests.integration.ledgers import RUN, record_eaten, record_redelivery

pytest_plugins = ["tests.integration.postgresql"]


@dataclass
class Producer:
    """What one producer ordered, if it closed its order, and how often each number was delivered."""

    name: str
    deliveries: Counter[int]
    order: tuple[int, int] | None
    dead: int = 0


@dataclass
class World:
    """Everything that is in a ledger: producers of the run, and of another that must not be counted."""

    producers: list[Producer] = field(default_factory=list)
    others: list[Producer] = field(default_factory=list)


def plain_sums(producer: Producer) -> Sums:
    numbers = set(producer.deliveries)
    accepted = None if producer.order is None else set(range(producer.order[0]))
    unknown = set() if producer.order is None else set(range(*producer.order))
    missing = sorted((accepted or set()) - numbers)
    gaps: list[tuple[int, int]] = []
    for number in missing:
        if gaps and gaps[-1][1] == number - 1:
            gaps[-1] = (gaps[-1][0], number)
        else:
            gaps.append((number, number))
    return Sums(
        producer=producer.name,
        accepted=None if accepted is None else len(accepted),
        eaten=len(numbers),
        lost=len(missing),
        duplicated=(producer.deliveries - Counter(numbers)).total(),
        recovered=len(numbers & unknown),
        unexpected=0 if accepted is None else len(numbers - accepted - unknown),
        dead=producer.dead,
        missing=gaps[:5],
    )


def plain_total(each: list[Sums]) -> Sums:
    accepted = [one.accepted for one in each if one.accepted is not None]
    return Sums(
        producer="all",
        accepted=sum(accepted) if len(accepted) == len(each) else None,
        eaten=sum(one.eaten for one in each),
        lost=sum(one.lost for one in each),
        duplicated=sum(one.duplicated for one in each),
        recovered=sum(one.recovered for one in each),
        unexpected=sum(one.unexpected for one in each),
        dead=sum(one.dead or 0 for one in each),
    )


#: Small numbers, so that they meet the order's edges often.
NUMBERS = st.integers(0, 24)
ORDERS = st.tuples(NUMBERS, st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def some_producers(names: str) -> st.SearchStrategy[list[Producer]]:
    one = st.builds(
        Producer,
        name=st.sampled_from(names),
        deliveries=st.lists(NUMBERS, max_size=40).map(Counter),
        order=st.none() | ORDERS,
        dead=st.integers(0, 3),
    )
    return st.lists(one, max_size=len(names), unique_by=lambda producer: producer.name)


WORLDS = st.builds(World, producers=some_producers("abc"), others=some_producers("abc"))


def deliver(ledger: Ledger, baozi: Baozi) -> None:
    if not record_redelivery(ledger, baozi):
        record_eaten(ledger, baozi, "小红", "here", 2.0)


def fill(ledger: Ledger, world: World, seed: int) -> None:
    """Record it all as workers would, in a random order."""
    records: list[Callable[[], object]] = []
    for run, producers in ((RUN, world.producers), ("other", world.others)):
        for producer in producers:
            if producer.order is not None:
                accepted, attempted = producer.order
                order = Closing(
                    run=run, producer=producer.name, accepted=accepted, attempted=attempted, closed_at=1.0
                )
                records.append(partial(ledger.record_order, order))
            for number in producer.deliveries.elements():
                baozi = Baozi(run=run, producer=producer.name, number=number, made_at=1.0)
                records.append(partial(deliver, ledger, baozi))
    random.Random(seed).shuffle(records)
    for record in records:
        record()


@pytest.fixture(scope="module")
def one_sqlite_ledger() -> Iterator[Ledger]:
    """One for all examples: to make a file for each would take longer than all the sums."""
    with TemporaryDirectory() as folder:
        made = Ledger(file_url(Path(folder) / "ledger.sqlite3")).open()
        yield made
        made.close()


def assert_sums_are_plain(ledger: Ledger, world: World) -> None:
    known = [one for one in world.producers if one.deliveries or one.order is not None or one.dead]
    dead = {one.name: one.dead for one in known if one.dead}
    if not known:
        with pytest.raises(NothingToAudit):
            audit(ledger, RUN, dead)
        return
    sums = audit(ledger, RUN, dead)
    expected = sorted((plain_sums(one) for one in known), key=lambda one: one.producer)
    # One known by its dead letters alone comes after those that the ledger knows.
    assert sorted(sums.producers, key=lambda one: one.producer) == expected
    assert sums.total == plain_total(expected)
    assert sums.open_orders == [one.producer for one in sums.producers if one.accepted is None]
    assert sums.proven is (
        all(one.accepted is not None for one in expected)
        and not any(one.lost or one.unexpected for one in expected)
    )


@given(world=WORLDS, seed=st.integers())
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_sums_of_recorded_rows_equal_the_sums_of_a_python_model(
    one_sqlite_ledger: Ledger, world: World, seed: int
) -> None:
    empty(one_sqlite_ledger)
    fill(one_sqlite_ledger, world, seed)
    assert_sums_are_plain(one_sqlite_ledger, world)


@given(world=WORLDS)
@hypothesis_settings(max_examples=400)
def test_the_sums_in_sql_equal_the_sums_over_multisets(one_sqlite_ledger: Ledger, world: World) -> None:
    # The rows are put there at once: several hundred worlds, where one commit a baozi allows some dozens.
    empty(one_sqlite_ledger)
    put_rows(one_sqlite_ledger, world)
    assert_sums_are_plain(one_sqlite_ledger, world)


@given(world=WORLDS)
@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgresql_sums_as_plain_python_does(postgresql_of_worlds: Ledger, world: World) -> None:
    empty(postgresql_of_worlds)
    put_rows(postgresql_of_worlds, world)
    assert_sums_are_plain(postgresql_of_worlds, world)


@pytest.fixture
def postgresql_of_worlds(postgresql_url: str) -> Iterator[Ledger]:
    made = Ledger(postgresql_url).open()
    yield made
    made.close()


def empty(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        connection.execute(delete(eaten))
        connection.execute(delete(orders))
        connection.commit()


def put_rows(ledger: Ledger, world: World) -> None:
    meals: list[dict[str, object]] = []
    closed: list[dict[str, object]] = []
    for run, producers in ((RUN, world.producers), ("other", world.others)):
        for one in producers:
            key = {"run": run, "producer": one.name}
            for number, deliveries in one.deliveries.items():
                times = {"made_at": 1.0, "eaten_at": 2.0, "deliveries": deliveries}
                where = {"consumer": "小红", "machine": "here"}
                meals.append(
                    {**key, **times, **where, "number": number, "baozi_id": f"{run}/{one.name}/{number}"}
                )
            if one.order is not None:
                closed.append({**key, "accepted": one.order[0], "attempted": one.order[1], "closed_at": 1.0})
    with ledger.reading() as connection:
        if meals:
            connection.execute(insert(eaten), meals)
        if closed:
            connection.execute(insert(orders), closed)
        connection.commit()
