"""The unacknowledged messages of a worker's main process. It acknowledges many in one write."""

import struct
from collections.abc import Collection
from typing import Any

from celery.utils.log import get_logger

logger = get_logger(__name__)

#: ``basic.ack`` on the wire: a method frame (1), its channel and its 13 bytes, class 60, method 80, the
#: delivery tag, the flag "multiple", the frame's end (AMQP 0-9-1, sections 4.2.3, 1.8.3.13).
_ACK = struct.Struct(">BHIHHQBB")
_METHOD_FRAME, _PAYLOAD_BYTES, _BASIC, _ACK_METHOD, _FRAME_END = 1, 13, 60, 80, 0xCE
#: ``basic.nack``: class and method; its delivery tag 0 with "multiple" means all (RabbitMQ's extension).
_NACK = (60, 120)


class Unsettled:
    """The messages of one channel that are neither acknowledged nor requeued, in the order of their tags.

    "All up to this one" is much cheaper for the broker than many acknowledgements, but only possible
    if all unacknowledged messages are known. Messages that Celery has settled are recognised by their state.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._messages: dict[int, Any] = {}

    def add(self, message: Any) -> None:
        """Add ``message``; it replaces one with the same delivery tag."""
        self._messages[message.delivery_tag] = message

    def clear(self) -> None:
        """Forget all messages: their channel is closed, and the broker redelivers them."""
        self._messages.clear()

    def acknowledge(self, done: Collection[Any]) -> None:
        """Acknowledge all of ``done``, in one write."""
        if done:
            upto, single = self._split({message.delivery_tag for message in done})
            acks = [(upto, True)] if upto else []
            self._write(next(iter(done)).channel, acks + [(tag, False) for tag in single])

    def _split(self, done: set[int]) -> tuple[int, list[int]]:
        """Remove ``done``. Return the tag up to which all are done, or 0, and the other tags."""
        upto = 0
        for tag in list(self._messages):
            message = self._messages[tag]
            if tag in done:
                upto = tag
            elif not message.acknowledged:
                break
            del self._messages[tag]
        return upto, [tag for tag in done if self._messages.pop(tag, None) is not None]

    def _write(self, channel: Any, acks: list[tuple[int, bool]]) -> None:
        # py-amqp's `basic_ack` makes one write for each tag, which takes 20 µs. If a batch ends before an
        # older one, each of its messages needs an acknowledgement: "multiple" would include the older batch.
        number = channel.channel_id
        frames = [
            _ACK.pack(_METHOD_FRAME, number, _PAYLOAD_BYTES, _BASIC, _ACK_METHOD, tag, multiple, _FRAME_END)
            for tag, multiple in acks
        ]
        channel.connection.transport.write(b"".join(frames))

    def requeue(self) -> None:
        """Requeue all messages that are left, in one frame.

        Closing the channel would also requeue them, but RabbitMQ would count that as a failed delivery.
        """
        message = next((it for it in self._messages.values() if not it.acknowledged), None)
        if message is not None:
            message.channel.send_method(_NACK, "Lbb", (0, True, True))
        self.clear()
