"""A message that is not decompressed or decoded before it has been checked.

kombu's own message decompresses a compressed body in its constructor. Some kilobytes can become gigabytes.

Upstream: no thread is known.
Checked with: kombu 5.7.0.
"""

from typing import Any

from kombu import Message as KombuMessage
from kombu.compression import decompress


class UninflatedMessage(KombuMessage):
    """kombu's message, but its constructor does not decompress the body."""

    def __init__(self, msg: Any, channel: Any = None, **options: Any) -> None:
        """Make it from py-amqp's ``msg``. kombu calls this instead of its own class."""
        super().__init__(
            body=msg.body,
            channel=channel,
            delivery_tag=msg.delivery_tag,
            content_type=msg.properties.get("content_type"),
            content_encoding=msg.properties.get("content_encoding"),
            delivery_info=msg.delivery_info,
            properties=msg.properties,
            **options,
        )
        self.headers = msg.properties.get("application_headers") or {}
        self.raw_body = msg.body
        """The body as received; Celery reads ``body``."""

    def inflate(self) -> None:
        """Decompress the body like kombu's constructor, for a message of a queue that is not guarded.

        Raises:
            kombu.exceptions.DecodeError: the body is damaged, or its compression is unknown.
        """
        compression = self.headers.pop("compression", None)
        if compression:
            body: Any = decompress(self.raw_body, compression)  # bytes on AMQP; the stubs have text
            self.body = body
