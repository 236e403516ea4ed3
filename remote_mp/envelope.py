"""A message on the wire, framed by hand: of two that a process puts, only the id and the body differ.

kombu makes and frames a message in some 0.1 ms, most of it the same each time.
"""

from struct import Struct

from baozi.amqp.frames import Frames

_FLAGS = Struct(">H")
#: Which properties follow, in this order; delivery mode 2 is "persistent".
_CONTENT_TYPE, _DELIVERY_MODE, _REPLY_TO, _MESSAGE_ID = 1 << 15, 1 << 12, 1 << 9, 1 << 7
_PERSISTENT = b"\x02"


class Envelope:
    """Makes the frames of one process's messages to one queue, on one channel."""

    def __init__(
        self, channel: int, frame_max: int, queue: str, content_type: str, reply_to: str | None
    ) -> None:
        """Prepare what they share.

        Args:
            channel: the channel's number.
            frame_max: bytes of the largest frame.
            queue: where they go; they are mandatory, and persistent.
            content_type: of their bodies.
            reply_to: where to say that one is done; None to say it nowhere.
        """
        self._frames = Frames(channel, frame_max, "", queue)
        flags = _CONTENT_TYPE | _DELIVERY_MODE | _MESSAGE_ID | (_REPLY_TO if reply_to else 0)
        address = _short(reply_to) if reply_to else b""
        self._properties = _FLAGS.pack(flags) + _short(content_type) + _PERSISTENT + address

    def fill(self, message_id: str, body: bytes) -> bytes:
        """Return all frames of the message."""
        return self._frames.of(self._properties + _short(message_id), body)


def _short(text: str) -> bytes:
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
