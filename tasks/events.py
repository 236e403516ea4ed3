"""A worker's events, on a connection of their own: where that is lost, the worker connects anew.

Celery publishes with retries, in the event loop. kombu 5.7 then declares the exchange on the lost channel
again and again, each time on one more new connection, and never gets back to the loop: a worker that was
frozen past its heartbeat (a paused machine, SIGSTOP) was seen to eat nothing more.
"""

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):
    """Sends each event once.

    An error of one that Celery would retry, the heartbeat's, goes to the event loop, which connects all anew;
    others are kept, as Celery keeps them.
    """

    def _publish(
        self,
        event: Any,
        producer: Any,
        routing_key: str,
        retry: bool = False,
        retry_policy: Any = None,
        **more: Any,
    ) -> None:
        self.buffer_while_offline = not retry
        super()._publish(  # type: ignore[misc]  # the stubs leave it out
            event, producer, routing_key, retry=False, retry_policy=retry_policy, **more
        )


class Events(CeleryEvents):
    """``app.events`` with this dispatcher."""

    dispatcher_cls = "tasks.events:Dispatcher"
