"""The unconfirmed messages of a channel and their outcomes, without any I/O.

The broker numbers a channel's messages from 1. It confirms or refuses them in any order, one or "all up to"
(RabbitMQ guide "Consumer Acknowledgements and Publisher Confirms"). A message that no queue accepts is first
returned, without its number, and then confirmed.
"""

from enum import StrEnum
from itertools import takewhile


class Outcome(StrEnum):
    """What became of a published message."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    RETURNED = "returned"
    UNKNOWN = "unknown"


class Window:
    """The messages of one channel that have no outcome yet, in the order of sending."""

    def __init__(self) -> None:
        """Start empty, as on a new channel."""
        self._last_tag = 0
        self._waiting: dict[int, str] = {}
        self._ids: set[str] = set()
        self._returned: set[str] = set()

    def __len__(self) -> int:
        """Return how many messages have no outcome yet."""
        return len(self._waiting)

    def sent(self, message_id: str) -> int:
        """Record that a message is sent; return its delivery tag.

        Raises:
            ValueError: a message with this id has no outcome yet. A return could be of either.
        """
        if message_id in self._ids:
            raise ValueError(f"{message_id} waits for its confirm already")
        self._last_tag += 1
        self._waiting[self._last_tag] = message_id
        self._ids.add(message_id)
        return self._last_tag

    def returned(self, message_id: str) -> None:
        """Record that no queue accepts it: its outcome when the confirm follows. Ignores an unknown id."""
        if message_id in self._ids:
            self._returned.add(message_id)

    def confirmed(self, tag: int, multiple: bool) -> list[tuple[str, Outcome]]:
        """Return ``tag``'s message, or all up to it, in the order of sending: confirmed or returned."""
        return self._settle(tag, multiple, Outcome.CONFIRMED)

    def refused(self, tag: int, multiple: bool) -> list[tuple[str, Outcome]]:
        """Return ``tag``'s message, or all up to it, in the order of sending: refused or returned."""
        return self._settle(tag, multiple, Outcome.REFUSED)

    def lost(self) -> list[tuple[str, Outcome]]:
        """Return all as unknown, because the connection was lost. A new channel's tags begin at 1."""
        settled = [(message_id, Outcome.UNKNOWN) for message_id in self._waiting.values()]
        self._last_tag = 0
        self._waiting.clear()
        self._ids.clear()
        self._returned.clear()
        return settled

    def _settle(self, tag: int, multiple: bool, outcome: Outcome) -> list[tuple[str, Outcome]]:
        tags = self._up_to(tag) if multiple else [tag]
        settled = []
        for each in tags:
            message_id = self._waiting.pop(each, None)
            if message_id is not None:
                settled.append((message_id, Outcome.RETURNED if message_id in self._returned else outcome))
                self._returned.discard(message_id)
                self._ids.discard(message_id)
        return settled

    def _up_to(self, tag: int) -> list[int]:
        # They are in the order of their tags. Tag 0 means all (AMQP 0-9-1, basic.ack).
        return list(takewhile(lambda each: each <= tag or not tag, self._waiting))
