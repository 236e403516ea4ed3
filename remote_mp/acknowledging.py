"""Acknowledges messages whose items are finished, after the processes that put the items were notified.

It also moves messages that are not items to the queue ``remote_mp.dead``.
"""

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
from remote_mp.dead_letters import dead_letter_properties
from remote_mp.topology import DEAD, is_done_queue

_PERSISTENT = 2
#: Most numbers in one done notice, so that its size is within the limit of every broker.
_NOTICE_NUMBERS = 100


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedMessage:
    """A message that the broker delivered. Its items are not read yet."""

    message: Any
    connection: int
    """The number of the connection that it came through. It can be acknowledged only there."""

    @property
    def tag(self) -> int:
        """Its delivery tag."""
        return int(self.message.delivery_info["delivery_tag"])


@dataclass(slots=True, eq=False)
class ReceivedItem:
    """One item of a received message."""

    item: Any
    received: ReceivedMessage
    index: int
    """Its place in the message, from 0."""
    of: int
    """How many items the message has."""
    returned: bool | None = None
    """Whether ``get`` has returned it: None while that is not known, False if an interrupt came first.

    It is set by an assignment, because an interrupt can come after each call, but not after an assignment.
    """
    counted: bool = False
    """Whether it is counted as finished. An interrupted ``task_done`` may finish it a second time."""

    @property
    def number(self) -> int | None:
        """The number that the putting process gave to it; None if another client sent the message."""
        process, _, first = str(self.received.message.properties.get("message_id", "")).rpartition("-")
        return int(first) + self.index if process and first.isdecimal() else None


class Acknowledger:
    """Keeps the unacknowledged messages of the current connection, and acknowledges those that are finished.

    For each finished item it first sends a confirmed done notice to the process that put the item, and
    acknowledges after the confirm. If this process is killed in between, the item is redelivered, and the
    putting process may be notified twice, but it is always notified.
    """

    def __init__(self) -> None:
        """Begin without a connection."""
        self._finished: deque[ReceivedItem] = deque()
        self._dead: deque[tuple[ReceivedMessage, str]] = deque()
        self.use(None)

    # --- called by any thread

    def finish(self, item: ReceivedItem) -> None:
        """Note that an item is finished."""
        self._finished.append(item)

    @property
    def dead(self) -> deque[tuple[ReceivedMessage, str]]:
        """The messages that are to be moved to ``remote_mp.dead``, each with the reason."""
        return self._dead

    # --- called by the connection's thread

    def use(self, channel: Any) -> None:
        """Forget the messages of the earlier connection, and use this ``channel``; None if there is none."""
        self._channel = channel
        self._unacknowledged: dict[int, int | None] = {}
        """By delivery tag, oldest first: how many items are unfinished; None while none is finished."""
        self._published = 0
        self._confirming: dict[int, list[ReceivedMessage]] = {}
        """By the number of a published message: what to acknowledge when that is confirmed."""
        if channel is not None:
            channel.events["basic_ack"].add(self._on_confirm)
            channel.events["basic_nack"].add(self._on_refusal)
            channel.confirm_select()

    def count_after(self, tag: int) -> int:
        """Return how many messages with a higher delivery tag are unacknowledged."""
        return sum(it > tag for it in self._unacknowledged)

    def add(self, received: ReceivedMessage) -> None:
        """Add a message that was just delivered."""
        self._unacknowledged[received.tag] = None

    def requeue(self, received: ReceivedMessage) -> None:
        """Return a message to the queue."""
        if self._unacknowledged.pop(received.tag, 0) != 0:
            self._channel.basic_reject(received.tag, requeue=True)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to send and no confirm to wait for."""
        return not (self._finished or self._dead or self._confirming)

    @property
    def has_finished(self) -> bool:
        """Whether there are finished items that were not sent, because their ``get`` has not returned yet."""
        return bool(self._finished)

    def send(self, connection: int) -> None:
        """Send done notices, dead letters and acknowledgements for messages of this ``connection``.

        Messages of an earlier connection are dropped: the broker redelivers them.
        """
        by_address: dict[str, list[ReceivedItem]] = {}
        for _ in range(len(self._finished)):
            item = self._finished.popleft()
            if item.returned is None:
                self._finished.append(item)
            elif item.returned and not item.counted and item.received.connection == connection:
                item.counted = True
                address = item.received.message.properties.get("reply_to", "")
                # Another client may name any queue in reply_to. Send notices only to queues of done notices.
                by_address.setdefault(address if is_done_queue(address) else "", []).append(item)
        self._acknowledge(self._count_finished(by_address.pop("", [])))
        for address, items in by_address.items():
            for part in _in_parts(items):
                numbers = [item.number for item in part if item.number is not None]
                notice = Message(
                    json.dumps(numbers), content_type="application/json", delivery_mode=_PERSISTENT
                )
                self._acknowledge_when_confirmed(self._count_finished(part))
                # Not mandatory: a process that has ended needs no notice.
                self._channel.basic_publish(notice, "", address)
        while self._dead:
            received, reason = self._dead.popleft()
            if received.connection == connection:
                self._acknowledge_when_confirmed([received])
                self._publish_dead_letter(received.message, reason)

    def _count_finished(self, items: list[ReceivedItem]) -> list[ReceivedMessage]:
        """Count these items as finished. Return the messages of which no item is unfinished now."""
        complete = []
        for item in items:
            tag = item.received.tag
            left = self._unacknowledged.get(tag)
            self._unacknowledged[tag] = left = (item.of if left is None else left) - 1
            if not left:
                complete.append(item.received)
        return complete

    def _publish_dead_letter(self, message: Any, reason: str) -> None:
        amqp = self._channel.connection
        # Mandatory: if the queue was deleted meanwhile, the broker returns the message, and py-amqp raises.
        frames = Frames(self._channel.channel_id, amqp.frame_max, "", DEAD)
        properties = dead_letter_properties(raw_properties(message), reason, frames.room)
        amqp.transport.write(frames.of(properties, message.body or b""))
        amqp.bytes_sent += 1

    def _acknowledge_when_confirmed(self, messages: list[ReceivedMessage]) -> None:
        """Acknowledge these messages when the next message that is published is confirmed."""
        self._published += 1
        self._confirming[self._published] = messages

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        confirmed = [it for it in self._confirming if it <= tag] if multiple else [tag]
        self._acknowledge([message for it in confirmed for message in self._confirming.pop(it)])

    def _on_refusal(self, _tag: int, _multiple: bool) -> None:
        raise BrokerAway("The broker refused a notice of finished items. It will redeliver these items.")

    def _acknowledge(self, messages: Iterable[ReceivedMessage]) -> None:
        """Acknowledge these messages: the oldest unacknowledged ones at once, the others one by one."""
        tags = {received.tag for received in messages}
        oldest = []
        for tag in self._unacknowledged:
            if tag not in tags:
                break
            oldest.append(tag)
        if oldest:
            self._channel.basic_ack(oldest[-1], multiple=True)
        for tag in tags.difference(oldest):
            self._channel.basic_ack(tag)
        for tag in tags:
            del self._unacknowledged[tag]


def _in_parts(items: list[ReceivedItem]) -> Iterator[list[ReceivedItem]]:
    left = iter(items)
    while part := list(islice(left, _NOTICE_NUMBERS)):
        yield part
