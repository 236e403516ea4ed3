"""A worker's events, on a connection of their own: they never cost the worker its work.

Celery publishes with retries, in the event loop. kombu 5.7 then declares the exchange on the lost channel
again and again, each time on one more new connection, and never gets back to the loop: a worker that was
frozen past its heartbeat (a paused machine, SIGSTOP) was seen to eat nothing more.

While a memory or disk alarm is on, the broker reads nothing from this connection. What Celery writes fills
the socket's buffers. One second later the kernel gives the connection up, and the worker connects again and
repeats what it was eating. So an event is sent once, and dropped while the broker takes none.

For each event Celery looks up what all events of a worker have in common. Those of a batch share it.

Upstream: celery/celery#4804 and celery/celery#5066 made the heartbeat's event retry, celery/kombu#2275 is
about the endless declaring. No thread is known of events under an alarm.
Checked with: celery 5.7.0, kombu 5.7.0, amqp 5.4.2.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from select import POLLOUT, poll
from socket import SOL_TCP, TCP_USER_TIMEOUT
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from celery.utils.log import get_logger
from celery.utils.time import utcoffset

from baozi.amqp.connection import CONNECT_TIMEOUT

logger = get_logger(__name__)

#: Events, or batches of up to 24, that are kept while the connection is lost.
_KEPT = 1000
#: Seconds to wait for an answer of a broker that has said that it takes nothing: it gives none.
_BLOCKED_TIMEOUT = 1


class Dispatcher(EventDispatcher):
    """Sends each event once, if the broker takes events now.

    An error of one that Celery would retry, the heartbeat's, goes to the event loop, which connects all anew;
    others are kept, as Celery keeps them, up to a limit.
    """

    def __init__(self, connection: Any = None, *more: Any, **options: Any) -> None:
        """Send over kombu's ``connection``; the rest is Celery's."""
        super().__init__(connection, *more, **options)
        self._outbound_buffer: deque[tuple[Any, str]] = deque(maxlen=_KEPT)
        self._dropped = 0
        amqp = self._amqp()
        if amqp is not None:
            # Milliseconds that the kernel waits for a peer that takes nothing. py-amqp's one second is too
            # short: an alarm has no limit. 0 is the kernel's own; heartbeats notice a peer that is gone.
            amqp.sock.setsockopt(SOL_TCP, TCP_USER_TIMEOUT, 0)

    def _amqp(self) -> Any:
        """Return py-amqp's connection, if there is one now."""
        connection = self.connection
        if connection is None or not connection.connected or connection.transport.driver_type != "amqp":
            return None
        return connection.connection

    def _takes_events(self) -> bool:
        """Return whether the broker reads what is sent, as far as can be known; bound the waits for it."""
        amqp = self._amqp()
        if amqp is None:
            return True
        writable = poll()
        writable.register(amqp.sock, POLLOUT)
        takes = bool(not amqp.transport.reader.blocked and writable.poll(0))
        amqp.sock.settimeout(CONNECT_TIMEOUT if takes else _BLOCKED_TIMEOUT)
        return takes

    def _publish(
        self,
        event: Any,
        producer: Any,
        routing_key: str,
        retry: bool = False,
        retry_policy: Any = None,
        **more: Any,
    ) -> None:
        if not self._takes_events():
            self._dropped += len(event) if isinstance(event, list) else 1
            return
        self._log_dropped()
        self.buffer_while_offline = not retry
        kept, full = self._outbound_buffer, len(self._outbound_buffer) == _KEPT
        celerys: Any = super()  # the stubs leave the method out
        celerys._publish(event, producer, routing_key, retry=False, retry_policy=retry_policy, **more)
        if full and kept[-1][0] is event:
            self._dropped += 1  # the oldest had to go

    def send_together(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Send events of tasks as :meth:`send` does, at half of its cost.

        Args:
            events: each with its type, which begins with "task-", and its own fields.
        """
        celerys: Any = self  # the stubs leave its attributes out
        if celerys.on_send_buffered is None or "task" not in celerys.buffer_group:
            for kind, fields in events:
                self.send(kind, **fields)
            return
        if not celerys.enabled or (celerys.groups and "task" not in celerys.groups):
            return
        same = {"hostname": celerys.hostname, "utcoffset": utcoffset(), "pid": celerys.pid}
        now, forward, buffer = time.time(), celerys.clock.forward, celerys._group_buffer["task"]
        for kind, fields in events:
            buffer.append({**same, "clock": forward(), **fields, "timestamp": now, "type": kind})
            # No larger message than Celery's: a writable socket takes it whole, so that the loop never waits.
            if len(buffer) >= celerys.buffer_limit:
                self.flush()
        celerys.on_send_buffered()

    def _log_dropped(self) -> None:
        """Log how many events were dropped since it was logged last, if any."""
        if self._dropped:
            logger.warning(
                "Dropped %d events while the broker took none: a memory or disk alarm was on, or it was slow."
                " Tasks are not affected.",
                self._dropped,
            )
            self._dropped = 0

    def close(self) -> None:
        """Send no more."""
        self._log_dropped()
        super().close()


class Events(CeleryEvents):
    """``app.events`` with this dispatcher."""

    dispatcher_cls = "baozi.upstream.events:Dispatcher"
