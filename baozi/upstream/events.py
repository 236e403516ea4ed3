"""A worker's events. If they cannot be sent, the worker goes on consuming.

Celery publishes events with retries, in the event loop. On a lost channel kombu 5.7 then declares the
exchange again and again, each time on a new connection, and never returns to the loop. A worker that was
frozen for longer than its heartbeat (a paused machine, SIGSTOP) then consumed nothing any more.

While a memory or disk alarm is on, the broker reads nothing from this connection. Celery's events fill the
socket's buffers. One second later the kernel closes the connection, and the worker connects again and
executes its messages again. So here an event is sent once, and dropped while the broker accepts none.

Celery looks up the fields that all events of a worker have for each event. The events of a batch share them.

Upstream: celery/celery#4804 and celery/celery#5066 made the heartbeat's event retry, celery/kombu#2275 is
about the endless declaring. No thread about events under an alarm is known.
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
#: Seconds to wait for an answer while the broker has blocked the connection, because it will not answer.
_BLOCKED_TIMEOUT = 1


class Dispatcher(EventDispatcher):
    """Sends each event once, if the broker accepts events now.

    If a heartbeat event fails, which Celery would retry, the error goes to the event loop, which connects
    again. Other events that fail are kept, as in Celery, but up to a limit.
    """

    def __init__(self, connection: Any = None, *more: Any, **options: Any) -> None:
        """Use kombu's ``connection``. The other arguments are Celery's."""
        super().__init__(connection, *more, **options)
        self._outbound_buffer: deque[tuple[Any, str]] = deque(maxlen=_KEPT)
        self._dropped = 0
        amqp = self._amqp()
        if amqp is not None:
            # Milliseconds that the kernel waits for a peer that reads nothing. py-amqp sets one second, which
            # is too short for an alarm. 0 is the kernel's default. Heartbeats detect a peer that is gone.
            amqp.sock.setsockopt(SOL_TCP, TCP_USER_TIMEOUT, 0)

    def _amqp(self) -> Any:
        """Return py-amqp's connection, or None."""
        connection = self.connection
        if connection is None or not connection.connected or connection.transport.driver_type != "amqp":
            return None
        return connection.connection

    def _takes_events(self) -> bool:
        """Return whether the broker seems to read from the socket, and set the socket's timeout."""
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
            self._dropped += 1  # the full buffer has dropped its oldest event

    def send_together(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Send events of tasks like :meth:`send`, at half the cost.

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
            # Not larger than Celery's messages: a writable socket accepts the whole, so the loop never waits.
            if len(buffer) >= celerys.buffer_limit:
                self.flush()
        celerys.on_send_buffered()

    def _log_dropped(self) -> None:
        """Log how many events were dropped since the last call, if any."""
        if self._dropped:
            logger.warning(
                "Dropped %d events while the broker took none: a memory or disk alarm was on, or it was slow."
                " Tasks are not affected.",
                self._dropped,
            )
            self._dropped = 0

    def close(self) -> None:
        """Close the dispatcher."""
        self._log_dropped()
        super().close()


class Events(CeleryEvents):
    """Celery's ``app.events`` with this dispatcher."""

    dispatcher_cls = "baozi.upstream.events:Dispatcher"
