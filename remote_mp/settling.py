"""What is finished, and in which order that is told: first to who has put it, then to the broker."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from amqp import Message

from baozi.amqp.decoding import raw_properties
from baozi.amqp.frames import Frames
from baozi.errors import BrokerAway
from remote_mp.aside import put_aside
from remote_mp.declaring import DEAD, is_done_queue

_PERSISTENT = 2
#: Numbers in one word of what is finished, so that it is small enough for any broker.
_MOST_TOLD = 100


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One message that the broker has handed out: a tray, not looked at yet."""

    message: Any
    connection: int
    """Which of a process's connections it came through: on another, it is another's."""

    @property
    def tag(self) -> int:
        """Its number on the channel."""
        return int(self.message.delivery_info["delivery_tag"])


@dataclass(slots=True, eq=False)
class Got:
    """One item of a delivery."""

    item: Any
    delivery: Delivery
    index: int
    of: int
    """How many items the delivery has."""
    returned: bool | None = None
    """Whether ``get`` has returned it: None until it does, False if an interrupt came first.

    It is set by an assignment: an interrupt can follow each call, but no assignment.
    """
    settled: bool = False
    """Whether it is counted among the finished: an interrupted ``task_done`` may finish it a second time."""

    @property
    def number(self) -> int | None:
        """The number by which its putter knows it; None if another client sent the message."""
        process, _, first = str(self.delivery.message.properties.get("message_id", "")).rpartition("-")
        return int(first) + self.index if process and first.isdecimal() else None


class Settlement:
    """The deliveries of one connection after the other that are not acknowledged.

    An item that was finished is told to its putter with a confirmed message, and only then acknowledged: who
    is killed in between has it handed out again, and its putter hears of it twice, but never not at all.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._finished: deque[Got] = deque()
        self._to_bury: deque[tuple[Delivery, str]] = deque()
        self.begin(None)

    # --- what any thread calls

    def finish(self, got: Got) -> None:
        """Note that an item is finished."""
        self._finished.append(got)

    @property
    def to_bury(self) -> deque[tuple[Delivery, str]]:
        """The messages that are to be put aside, and why."""
        return self._to_bury

    # --- what the thread calls that speaks to the broker

    def begin(self, channel: Any) -> None:
        """Begin with a new connection's ``channel``, or, where it is None, without any."""
        self._channel = channel
        self._left: dict[int, int | None] = {}
        """By tag, in their order: how many items of it are not finished; None while nobody has looked."""
        self._published = 0
        self._confirming: dict[int, list[Delivery]] = {}
        if channel is not None:
            channel.events["basic_ack"].add(self._on_confirm)
            channel.events["basic_nack"].add(self._on_refusal)
            channel.confirm_select()

    def left_since(self, tag: int) -> int:
        """Return how many deliveries after the one with this ``tag`` are not acknowledged."""
        return sum(it > tag for it in self._left)

    def add(self, delivery: Delivery) -> None:
        """Take note of a new one."""
        self._left[delivery.tag] = None

    def give_back(self, delivery: Delivery) -> None:
        """Have it handed out again."""
        if self._left.pop(delivery.tag, 0) != 0:
            self._channel.basic_reject(delivery.tag, requeue=True)

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to tell."""
        return not (self._finished or self._to_bury or self._confirming)

    @property
    def has_finished(self) -> bool:
        """Whether items are finished whose ``get`` has not returned them yet."""
        return bool(self._finished)

    def settle(self, connection: int) -> None:
        """Tell what there is to tell of this connection's; what came through another is told by another."""
        told: dict[str, list[Got]] = {}
        for _ in range(len(self._finished)):
            got = self._finished.popleft()
            if got.returned is None:
                self._finished.append(got)
            elif got.returned and not got.settled and got.delivery.connection == connection:
                got.settled = True
                address = got.delivery.message.properties.get("reply_to", "")
                # Another client may have named any queue: none but a putter's own is to get our word.
                told.setdefault(address if is_done_queue(address) else "", []).append(got)
        self._acknowledge(self._count(told.pop("", [])))
        for address, finished in told.items():
            for several in _in_parts(finished):
                numbers = [got.number for got in several if got.number is not None]
                word = Message(
                    json.dumps(numbers), content_type="application/json", delivery_mode=_PERSISTENT
                )
                self._expect(self._count(several))
                # Not mandatory: a process that has ended since is to be told nothing.
                self._channel.basic_publish(word, "", address)
        while self._to_bury:
            delivery, reason = self._to_bury.popleft()
            if delivery.connection == connection:
                self._expect([delivery])
                self._bury(delivery.message, reason)

    def _count(self, several: list[Got]) -> list[Delivery]:
        """Count them off; return the deliveries of which none is left."""
        complete = []
        for got in several:
            tag = got.delivery.tag
            left = self._left.get(tag)
            self._left[tag] = left = (got.of if left is None else left) - 1
            if not left:
                complete.append(got.delivery)
        return complete

    def _bury(self, message: Any, reason: str) -> None:
        amqp = self._channel.connection
        # Mandatory: if the queue was deleted meanwhile, the broker returns it, and py-amqp raises.
        frames = Frames(self._channel.channel_id, amqp.frame_max, "", DEAD)
        body = message.body or b""
        amqp.transport.write(frames.of(put_aside(raw_properties(message), reason, frames.room), body))
        amqp.bytes_sent += 1

    def _expect(self, then: list[Delivery]) -> None:
        """Acknowledge these deliveries when what is published next is confirmed."""
        self._published += 1
        self._confirming[self._published] = then

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        confirmed = [it for it in self._confirming if it <= tag] if multiple else [tag]
        self._acknowledge([delivery for it in confirmed for delivery in self._confirming.pop(it)])

    def _on_refusal(self, _tag: int, _multiple: bool) -> None:
        raise BrokerAway("The broker did not take word of what is finished, and will hand that out again.")

    def _acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge them, those before which all is settled with one word."""
        done = {delivery.tag for delivery in deliveries}
        first = []
        for tag in self._left:
            if tag not in done:
                break
            first.append(tag)
        if first:
            self._channel.basic_ack(first[-1], multiple=True)
        for tag in done.difference(first):
            self._channel.basic_ack(tag)
        for tag in done:
            del self._left[tag]


def _in_parts(finished: list[Got]) -> Iterator[list[Got]]:
    several = iter(finished)
    while part := list(islice(several, _MOST_TOLD)):
        yield part
