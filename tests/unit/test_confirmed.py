"""The confirmed publisher on a broker that may confirm, refuse, return and hang up at any point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.amqp import publisher as confirmed
from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.publisher import ConfirmedPublisher
from baozi.amqp.window import Outcome, Window
from baozi.errors import BaoziError, BrokerAway, NotPermitted, QueueFull, Unroutable


@pytest.fixture(autouse=True, scope="module")
def without_pauses() -> Iterator[None]:
    """Nothing here gets better by waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirmed, "_FIRST_PAUSE", 0)
        patch.setattr(confirmed, "_LONGEST_PAUSE", 0)
        yield


@dataclass(frozen=True)
class Note:
    """A message."""

    id: str

    def publish(self, channel: ConfirmedChannel) -> None:
        """Do nothing: the broker below counts what it is sent."""


@dataclass
class Broker:
    """What each ``wait_for_confirms`` meets, in this order; after the last, all is confirmed at once."""

    events: list[tuple[str, int, bool]]
    has: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    channels: int = 0

    def open(self, _deadline: float) -> ConfirmedChannel:
        """Open a channel; now and then there is no way to."""
        self.channels += 1
        if self.events and self.events[0][0] == "refuse to open":
            self.events.pop(0)
            raise BrokerAway()
        return cast(ConfirmedChannel, Channel(self))


class Channel:
    """One connection to the broker above, with the window of the true one."""

    def __init__(self, broker: Broker) -> None:
        """Begin with an empty window."""
        self.broker = broker
        self.window = Window()
        self.ids: dict[int, str] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.window)

    def send(self, message_id: str, publish: Any) -> None:
        """Take one message."""
        publish(self)
        self.ids[self.window.sent(message_id)] = message_id
        self.broker.sent.append(message_id)

    def flush(self, deadline: float) -> None:
        """Write nothing."""

    def wait_for_confirms(self, _deadline: float, _silence: float) -> list[tuple[str, Outcome]]:
        """Let the next event happen."""
        assert self.window, "it waits for nothing"
        kind, which, multiple = self.broker.events.pop(0) if self.broker.events else ("confirm", 0, True)
        waiting = sorted(self.ids)
        tag = 0 if not which and multiple else waiting[which % len(waiting)]
        if kind == "hang up":
            raise BrokerAway()
        if kind == "forbid":
            raise NotPermitted()
        if kind == "return":
            self.window.returned(self.ids[tag or waiting[0]])
            tag = tag or waiting[0]
        settled = (
            self.window.refused(tag, multiple) if kind == "refuse" else self.window.confirmed(tag, multiple)
        )
        self.broker.has |= {message_id for message_id, outcome in settled if outcome is Outcome.CONFIRMED}
        gone = {message_id for message_id, _ in settled}
        self.ids = {tag: message_id for tag, message_id in self.ids.items() if message_id not in gone}
        return settled

    def unroutable(self) -> Unroutable:
        """Return the error."""
        return Unroutable()

    def abort(self) -> list[tuple[str, Outcome]]:
        """Hang up; some of what was under way may have arrived all the same."""
        lost = self.window.lost()
        self.broker.has |= {message_id for message_id, _ in lost[::2]}
        return lost

    def close(self) -> None:
        """Hang up in peace."""
        assert not self.window


KINDS = ("confirm", "confirm", "refuse", "return", "hang up", "forbid", "refuse to open")
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.booleans()), max_size=30)


@given(
    events=EVENTS,
    trays=st.lists(st.integers(1, 7), max_size=6),
    window=st.integers(1, 8),
)
def test_confirmed_messages_are_confirmed_and_all_others_are_listed(
    events: list[tuple[str, int, bool]], trays: list[int], window: int
) -> None:
    broker = Broker(events)
    told: list[str] = []
    given_up: list[str] = []
    put: list[str] = []

    def note(messages: Sequence[Note]) -> None:
        told.extend(message.id for message in messages)

    publisher = ConfirmedPublisher[Note](broker.open, note, window, timeout=5)
    for size in trays:
        tray = [Note(f"{len(put) + number}") for number in range(size)]
        put += [one.id for one in tray]
        try:
            publisher.put_ahead(tray)
        except BaoziError as error:
            given_up += error.unsettled
        assert set(told) <= broker.has
    try:
        publisher.close()
    except BaoziError as error:
        given_up += error.unsettled
        publisher.close()
    assert set(told) <= broker.has
    # Each exactly once, in one of the two.
    assert sorted(told + given_up, key=int) == put


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), window=st.integers(1, 8))
def test_no_more_messages_are_unconfirmed_than_the_window_allows(sizes: list[int], window: int) -> None:
    widest = 0

    class Watched(Channel):
        def wait_for_confirms(self, deadline: float, silence: float) -> list[tuple[str, Outcome]]:
            nonlocal widest
            widest = max(widest, self.waiting)
            return super().wait_for_confirms(deadline, silence)

    broker = Broker([])
    number = 0
    publisher = ConfirmedPublisher[Note](
        lambda _: cast(ConfirmedChannel, Watched(broker)), lambda _: None, window, timeout=5
    )
    for size in sizes:
        publisher.put_ahead([Note(f"{number + each}") for each in range(size)])
        number += size
    publisher.close()
    assert widest <= window
    assert broker.sent == [f"{each}" for each in range(number)]


@given(refusals=st.integers(0, 4), hang_ups=st.integers(0, 2))
def test_with_a_window_of_one_they_arrive_in_order_whatever_happens(refusals: int, hang_ups: int) -> None:
    broker = Broker([("refuse", 0, False)] * refusals + [("hang up", 0, False)] * hang_ups)
    publisher = ConfirmedPublisher[Note](broker.open, lambda _: None, 1, timeout=5)
    for number in range(6):
        publisher.put_ahead([Note(f"{number}")])
    publisher.close()
    assert broker.sent == sorted(broker.sent, key=int)
    assert set(broker.sent) == {f"{number}" for number in range(6)}


def test_a_message_that_is_refused_until_the_deadline_is_an_error_that_names_it() -> None:
    broker = Broker([("refuse", 0, True)] * 1_000_000)
    publisher = ConfirmedPublisher[Note](broker.open, lambda _: None, 10, timeout=0.05)
    with pytest.raises(QueueFull) as refused:
        publisher.put(Note("a"))
    assert refused.value.unsettled == ["a"]
    broker.events.clear()
    publisher.put(Note("a"))
    assert broker.has == {"a"}


def test_two_messages_of_one_id_are_not_sent_at_once() -> None:
    broker = Broker([])
    publisher = ConfirmedPublisher[Note](broker.open, lambda _: None, 10, timeout=5)
    publisher.put_ahead([Note("a")])
    with pytest.raises(ValueError, match="being sent"):
        publisher.put_ahead([Note("b"), Note("a")])
    with pytest.raises(ValueError, match="being sent"):
        publisher.put_ahead([Note("b"), Note("b")])
    publisher.close()
    assert broker.sent == ["a"]


def test_an_error_of_the_callers_leaves_without_waiting() -> None:
    broker = Broker([])
    publisher = ConfirmedPublisher[Note](broker.open, lambda _: None, 10, timeout=5)
    publisher.put_ahead([Note("a")])
    publisher.__exit__(KeyError, KeyError(), None)
    assert not broker.has - {"a"}
    publisher.put(Note("a"))
    assert broker.channels == 2
