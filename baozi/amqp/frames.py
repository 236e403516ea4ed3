"""Makes the AMQP frames of a message to publish.

AMQP 0-9-1 specification, 4.2.3 "General Frame Format" and 4.2.6 "Content Framing".
"""

from struct import Struct

from amqp.serialization import dumps
from amqp.spec import Basic

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_FRAME, _SIGNATURE, _CONTENT = Struct(">BHI"), Struct(">HH"), Struct(">HHQ")
#: Bytes of a frame in addition to its payload.
_FRAME_OVERHEAD = _FRAME.size + len(_END)


class Frames:
    """Makes the frames of messages to one exchange with one routing key, on one channel."""

    def __init__(
        self, channel: int, frame_max: int, exchange: str, routing_key: str, *, mandatory: bool = True
    ) -> None:
        """Prepare the method's frame, which all messages share.

        Args:
            channel: the channel's number.
            frame_max: bytes of the largest frame.
            exchange: the exchange's name; empty for the default exchange.
            routing_key: the routing key of all messages.
            mandatory: whether the broker returns a message that no queue accepts.
        """
        self._channel = channel
        self._largest = frame_max - _FRAME_OVERHEAD
        # The first argument is reserved, the last is "immediate" (AMQP 0-9-1 reference, basic.publish).
        arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
        self._method = self._frame(_METHOD, _SIGNATURE.pack(*Basic.Publish) + arguments)

    @property
    def room(self) -> int:
        """The most bytes of a message's properties, which must fit in one frame."""
        return self._largest - _CONTENT.size

    def of(self, properties: bytes, body: bytes) -> bytes:
        """Return all frames of one message. ``properties`` begin with their flags."""
        header = _CONTENT.pack(Basic.CLASS_ID, 0, len(body)) + properties
        frames = [self._method, self._frame(_HEADER, header)]
        for start in range(0, len(body), self._largest):
            frames.append(self._frame(_BODY, body[start : start + self._largest]))
        return b"".join(frames)

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return b"".join((_FRAME.pack(kind, self._channel, len(payload)), payload, _END))
