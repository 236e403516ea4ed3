"""What is settled by "all up to this one" is never more than what is done."""

import struct
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from baozi.worker.unsettled import Unsettled

ACK = struct.Struct(">BHIHHQBB")


class Channel:
    """Takes the frames apart, as a broker would, and settles what they say."""

    channel_id = 3

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.acknowledged: set[int] = set()
        self.given_back: set[int] = set()
        self.writes = 0
        self.connection = SimpleNamespace(transport=SimpleNamespace(write=self.write))

    def write(self, data: bytes) -> None:
        self.writes += 1
        for kind, channel, size, basic, ack, tag, multiple, end in ACK.iter_unpack(data):
            assert (kind, channel, size, basic, ack, end) == (1, 3, 13, 60, 80, 0xCE)
            meant = {it for it in self.outstanding if it <= tag} if multiple else {tag}
            assert meant <= self.outstanding
            assert meant
            self.outstanding -= meant
            self.acknowledged |= meant

    def send_method(self, method: tuple[int, int], form: str, arguments: tuple[Any, ...]) -> None:
        assert (method, form, arguments) == ((60, 120), "Lbb", (0, True, True))
        self.given_back |= self.outstanding
        self.outstanding.clear()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, set[int]]]:
    """Messages arrive; trays of some of them are done, in any order; Celery settles others by itself."""
    steps: list[tuple[str, set[int]]] = []
    here: set[int] = set()
    last = 0
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.integers(0, 6))
        arrived = set(range(last + 1, last + 1 + count))
        last += count
        here |= arrived
        steps.append(("arrived", arrived))
        for step in ("done", "elsewhere"):
            chosen = draw(st.sets(st.sampled_from(sorted(here)))) if here else set()
            here -= chosen
            steps.append((step, chosen))
    return steps


@given(histories())
def test_exactly_what_is_done_is_acknowledged_and_in_one_write(steps: list[tuple[str, set[int]]]) -> None:
    unsettled, channel = Unsettled(), Channel()
    messages: dict[int, SimpleNamespace] = {}
    done: set[int] = set()
    for step, tags in steps:
        for tag in sorted(tags) if step == "arrived" else ():
            messages[tag] = SimpleNamespace(delivery_tag=tag, channel=channel, acknowledged=False)
            channel.outstanding.add(tag)
            unsettled.add(messages[tag])
        if step == "elsewhere":
            for tag in tags:
                messages[tag].acknowledged = True
                channel.outstanding.discard(tag)
        if step == "done":
            writes = channel.writes
            unsettled.acknowledge([messages[tag] for tag in tags])
            assert channel.writes - writes == bool(tags)
            done |= tags
        assert channel.acknowledged == done
    rest = set(channel.outstanding)
    unsettled.requeue()
    assert channel.given_back == rest


def test_one_that_is_settled_in_the_place_of_another_holds_its_place() -> None:
    unsettled, channel = Unsettled(), Channel()
    first, second = (SimpleNamespace(delivery_tag=tag, channel=channel, acknowledged=False) for tag in (1, 2))
    channel.outstanding = {1, 2}
    unsettled.add(first)
    unsettled.add(second)
    copy = SimpleNamespace(delivery_tag=1, channel=channel, acknowledged=False)
    unsettled.add(copy)
    unsettled.acknowledge([second])
    assert channel.acknowledged == {2}
    copy.acknowledged = True
    third = SimpleNamespace(delivery_tag=3, channel=channel, acknowledged=False)
    channel.outstanding = {3}
    unsettled.add(third)
    unsettled.acknowledge([third])
    assert channel.acknowledged == {2, 3}
    assert not channel.outstanding
