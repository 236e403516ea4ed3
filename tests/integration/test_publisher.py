"""The publisher: what it sends is what `apply_async` sends, and each message's fate is known."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from celery import Task, signals
from kombu import Connection

from baozi.errors import QueueFull, Unroutable
from baozi.model import Baozi, Closing, Tray
from baozi.settings import Settings, settings
from producers.publisher import Publisher
from tests.integration.place import Place
from tests.waiting import wait_until

#: Names that are awkward to quote, to escape and to measure.
NAMES = ["alex", "老王", "it's", 'a "b"', 'it\'s "both"', "back\\slash", "🥟" * 60, "éè\u00a0", "{}", "'"]


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose broker is this process's."""
    with place.in_this_process(monkeypatch):
        yield place


@pytest.fixture
def private_here(private_place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The same, on the private node alone."""
    with private_place.in_this_process(monkeypatch):
        yield private_place


def chosen(**changes: Any) -> Settings:
    return settings().model_copy(update=changes)


def baozi(number: int, producer: str = "alex") -> Baozi:
    return Baozi(run="r", producer=producer, number=number, made_at=1_700_000_000.25 + number)


def messages(place: Place) -> list[tuple[dict[str, Any], bytes]]:
    """All that is in the queue: properties with the headers, and the body."""
    found = []
    with Connection(place.url) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get("baozi", no_ack=True)) is not None:
            body = message.body
            found.append((message.properties, body if isinstance(body, bytes) else body.encode()))
    return found


class Accepted(list[str]):
    """The ids of those that were accepted."""

    def __call__(self, tray: Sequence[Baozi]) -> None:
        self.extend(one.id for one in tray)


@pytest.mark.parametrize("order_id", ["", "a" * 32])
def test_a_framed_message_is_what_apply_async_sends(here: Place, order_id: str) -> None:
    items: list[Baozi | Closing] = [baozi(number, name) for number, name in enumerate(NAMES)]
    items.append(Closing(run="r", producer="it's", accepted=2**63 - 1, attempted=2**63 - 1, closed_at=0.1))

    # The second is longer than Celery shows of a task's arguments.
    trays = [Tray(run="r", producer="it's", numbers=list(range(size)), made_at=1.5) for size in (1, 3_000)]

    def send() -> list[tuple[dict[str, Any], bytes]]:
        with Publisher("test", settings(), order_id=order_id) as publisher:
            for item in items:
                publisher.put(item)
            publisher.put_ahead(trays)
        return messages(here)

    framed = send()
    signals.before_task_publish.connect(listener := lambda **_: None, weak=False)
    try:
        celerys = send()
    finally:
        signals.before_task_publish.disconnect(listener)
    assert len(framed) == len(items) + len(trays)
    assert framed == celerys
    named = {properties["application_headers"].get("baozi-order", "") for properties, _ in framed}
    assert named == {order_id}


def test_a_large_message_is_framed_in_pieces(private_here: Place) -> None:
    # Of a tray, no header has the name: headers must fit into one frame.
    long = Tray.model_construct(run="r", producer="包" * 200_000, numbers=[0], made_at=1.0)
    with Publisher("test", settings()) as publisher:
        publisher.put(long)
    [(_, body)] = messages(private_here)
    assert len(body) > 1_000_000
    assert body.count(b"\\u5305") == 200_000


def test_celerys_publish_signals_are_sent_for_each_message_and_a_receiver_can_change_it(
    private_here: Place,
) -> None:
    heard: list[tuple[str, str]] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-1"
        heard.append(("before", headers["id"]))

    def after(headers: dict[str, Any], **_: Any) -> None:
        heard.append(("after", headers["id"]))

    with Publisher("test", settings()) as publisher:
        publisher.put(baozi(0))
        signals.before_task_publish.connect(before)
        signals.after_task_publish.connect(after)
        publisher.put_ahead([baozi(1), baozi(2)])
        publisher.flush()
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
        publisher.put(baozi(3))
    first, second = baozi(1).task_id, baozi(2).task_id
    assert heard == [("before", first), ("after", first), ("before", second), ("after", second)]
    traced = [
        properties["application_headers"].get("traceparent") for properties, _ in messages(private_here)
    ]
    assert traced == [None, "00-1", "00-1", None]


@pytest.mark.usefixtures("private_here")
def test_wrappers_of_celerys_functions_are_called_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    original = Task.apply_async

    def traced(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(options["task_id"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(Task, "apply_async", traced)
    with Publisher("test", settings()) as publisher:
        publisher.put_ahead([baozi(0), baozi(1)])
    assert calls == [baozi(0).task_id, baozi(1).task_id]


def test_what_is_under_way_when_the_connection_is_cut_is_put_again_and_each_is_accepted_once(
    here: Place,
) -> None:
    accepted = Accepted()
    total, cuts = 6_000, 0
    with Publisher("cut", chosen(window=500), None, accepted) as publisher:
        for start in range(0, total, 100):
            publisher.put_ahead([baozi(number) for number in range(start, start + 100)])
            if start in {1_000, 3_000}:
                cuts += _cut(here)
    assert cuts == 2
    assert sorted(accepted, key=_number) == [baozi(number).id for number in range(total)]
    bodies = {body for _, body in messages(here)}
    assert len(bodies) == total


def _number(baozi_id: str) -> int:
    return int(baozi_id.rpartition("/")[2])


def _cut(place: Place) -> int:
    """Close the publisher's connection on the broker's side."""

    def named() -> list[str]:
        # The management's list is some seconds behind: it must show the one that lives.
        connections = place.node.api("GET", f"vhosts/{place.virtual_host}/connections")
        return [one["name"] for one in connections if one.get("user_provided_name") == "baozi producer cut"]

    before = named()
    if not before:
        wait_until(lambda: bool(named()), "the connection to be listed", 30)
        before = named()
    for name in before:
        place.node.close_connections(place.virtual_host)
        return 1 if name else 0
    return 0


def test_the_messages_that_a_full_queue_refuses_are_listed_exactly(private_here: Place) -> None:
    with Publisher("test", chosen(capacity=3)) as publisher:
        publisher.flush()
        publisher.put(baozi(0))
    # One that does not know of the bound, and runs ahead.
    accepted = Accepted()
    publisher = Publisher("test", chosen(capacity=3), None, accepted)
    publisher._publisher._confirmed._window_size = 50
    with pytest.raises(QueueFull) as full:  # noqa: PT012  # either may be the first to know
        publisher.put_ahead([baozi(number) for number in range(1, 60)], timeout=1)
        publisher.flush(timeout=1)
    publisher._publisher._confirmed.abort()
    ids = {baozi(number).task_id: baozi(number).id for number in range(1, 60)}
    left = {ids[task_id] for task_id in full.value.unsettled}
    assert left.isdisjoint(accepted)
    assert left | set(accepted) == set(ids.values())
    in_queue = {properties["correlation_id"] for properties, _ in messages(private_here)}
    # Of those that were on the way at the end, some may be there; of those accepted, all are.
    assert {*accepted} <= {ids.get(task_id) for task_id in in_queue} <= {*accepted, *left, None}


def test_unroutable_messages_are_not_accepted(private_here: Place) -> None:
    accepted = Accepted()
    publisher = Publisher("test", settings(), None, accepted)
    publisher.put(baozi(0))
    private_here.node.api("DELETE", f"queues/{private_here.virtual_host}/baozi")
    with pytest.raises(Unroutable) as unroutable:  # noqa: PT012  # either may be the first to know
        publisher.put_ahead([baozi(number) for number in range(1, 50)])
        publisher.flush()
    assert len(unroutable.value.unsettled) == 49
    assert accepted == ["r/alex/0"]


@pytest.mark.usefixtures("private_here")
def test_a_publisher_s_memory_does_not_grow_with_the_number_of_sent_messages() -> None:
    with Publisher("test", settings()) as publisher:
        publisher.put_ahead([baozi(number) for number in range(100)])
        publisher.flush()
        assert not publisher._publisher._confirmed._unsettled
        channel: Any = publisher._publisher._confirmed._channel
        assert not channel._window
        assert not channel._frames


def test_a_deadline_holds_while_an_alarm_blocks_it(here: Place) -> None:
    started = time.monotonic()
    with here.node.memory_alarm():
        publisher = Publisher("test", settings())
        with pytest.raises(Exception, match="alarm is on"):  # noqa: PT012  # either may be the first to wait
            for start in range(0, 100_000, 100):
                publisher.put_ahead([baozi(number) for number in range(start, start + 100)], timeout=2)
    assert time.monotonic() - started < 30
