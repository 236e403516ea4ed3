"""What a process has put and nobody has finished: what its ``join`` waits for."""

import json
from typing import Any

from remote_mp.changed import Changed
from remote_mp.declaring import declare_done


class Unfinished:
    """Their numbers. Whoever finishes them says so to a queue of this process's own.

    Numbers, and not a count: what was handed out twice may be finished twice, and is counted off once.
    """

    def __init__(self, queue: str, changed: Changed) -> None:
        """Take the name of that queue, and who is told of whatever comes."""
        self._queue = queue
        self._changed = changed
        self._numbers: set[int] = set()
        self._channel: Any = None
        self.wanted = False
        """Whether this process has put anything, so that there is something to hear."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)

    @property
    def is_heard(self) -> bool:
        """Whether there is a connection, and its queue listened to."""
        return self._channel is not None

    def add(self, number: int) -> None:
        """Expect one more."""
        with self._changed:
            self.wanted = True
            self._numbers.add(number)

    def discard(self, number: int) -> None:
        """Expect it no more: it was not put after all."""
        with self._changed:
            self._numbers.discard(number)

    # --- what the thread calls that speaks to the broker

    def listen(self, amqp: Any) -> None:
        """Listen, on a channel of its own, if there is something to hear."""
        if self.wanted and self._channel is None:
            channel = amqp.channel()
            channel.auto_decode = False
            declare_done(channel, self._queue)
            channel.basic_consume(self._queue, consumer_tag=self._queue, callback=self._on_done)
            with self._changed:
                self._channel = channel
                self._changed.notify_all()

    def forget(self) -> None:
        """The connection is gone; the queue stays, and what comes to it meanwhile."""
        self._channel = None

    def close(self) -> None:
        """Take the queue away: nobody listens any more."""
        if self._channel is not None:
            self._channel.basic_cancel(self._queue)
            self._channel.queue_delete(self._queue)

    def _on_done(self, message: Any) -> None:
        numbers = _told(message.body)
        with self._changed:
            self._numbers.difference_update(numbers)
            self._changed.notify_all()
        self._channel.basic_ack(message.delivery_info["delivery_tag"])


def _told(body: bytes) -> list[int]:
    """Return the numbers that a word of what is done tells; none if it is not such a word."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return [number for number in said if isinstance(number, int)] if isinstance(said, list) else []
