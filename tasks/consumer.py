"""The worker's consumer: no message, whatever it is, is dropped or stops the worker."""

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from amqp.exceptions import NotAllowed
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Message
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid
from vine import promise

from baozi.errors import AnotherLedger, BrokerError, NotPermitted, NoVirtualHost, TopologyMismatch, Unroutable
from baozi.settings import settings
from tasks import topology
from tasks.burial import BURY
from tasks.connection import answering_within, connecting, using
from tasks.decoding import fault
from tasks.letter import deliveries, raw_body, raw_properties
from tasks.reading import read_in_pieces
from tasks.startup import give_up, see_that_the_queue_is_ours
from tasks.trays import Trays
from tasks.unsettled import Unsettled

logger = get_logger(__name__)

#: Seconds between two looks for a queue that is missing.
_MISSING_PAUSE = 1


class Consumer(CeleryConsumer):
    """Celery's consumer, but what it would acknowledge and only log, or reject unsaid, is buried.

    To bury is a task of its own, ``tasks.bury``, that takes over the bad message's place: a pool process
    publishes the copy, confirmed, and only then is the original acknowledged. So nothing waits for a confirm
    in the main process, and a burial has what any task has: killed in between, it is done again.
    """

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc,valid-type]  # the stubs leave it out
        """Celery's steps, but one."""

        default_steps: ClassVar[list[str]] = [
            step.replace("celery.worker.consumer.delayed_delivery:", "tasks.delayed_delivery:")
            for step in CeleryConsumer.Blueprint.default_steps
        ]

    # Celery's, which its stubs leave out.
    connection_errors: tuple[type[BaseException], ...]
    strategies: dict[str, Any]
    call_soon_ack: Callable[..., Any]
    on_task_message: Any
    connection: Any
    hub: Any
    controller: Any
    task_consumer: Any
    app: Any

    receive_alone: Callable[[Any], None]
    """Lets Celery handle one message, alone."""
    _unsettled: Unsettled
    _trays: Trays | None = None
    _missing_since: float | None = None
    """When the queue was first found missing, on ``time.monotonic``'s clock; None while it is there."""

    def connect(self) -> Any:
        """Connect, and declare the topology on each connection: the broker may be a new one."""
        connection = super().connect()
        try:
            with answering_within(connection, settings().broker_timeout):
                topology.declare(connection, settings())
            see_that_the_queue_is_ours()
        except (TopologyMismatch, AnotherLedger) as error:
            give_up(error)
        return connection

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """End the worker if to connect again mends nothing; else say so, and go on as Celery does."""
        self._end_if_hopeless(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """As above."""
        self._end_if_hopeless(exc)
        super().on_connection_error_after_connected(exc)

    def _end_if_hopeless(self, error: Exception) -> None:
        """Where a right is missing, nobody but an administrator can mend it: Celery would try for ever.

        A queue that this worker may not declare may be on its way, or its node of the cluster: it has time.
        """
        uri = self.app.connection().as_uri()
        try:
            with connecting(uri) if isinstance(error, NotAllowed) else using():
                raise error
        except (NotPermitted, NoVirtualHost) as hopeless:
            give_up(hopeless)
        except Unroutable as missing:
            self._missing_since = self._missing_since or time.monotonic()
            if time.monotonic() - self._missing_since > settings().broker_timeout:
                give_up(missing)
            time.sleep(_MISSING_PAUSE)
        except BrokerError:
            pass  # the broker is away, and waited for

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Return what is called with each message that arrives on this connection."""
        self._missing_since = None
        receive = super().create_task_handler(*args, **options)
        unsettled = self._unsettled = Unsettled()
        trays = self._trays = self._new_trays()

        def receive_alone(message: Any) -> None:
            try:
                receive(message)
            except self.connection_errors:
                raise
            except Exception as error:
                # Headers and bodies of any shape come in here; Celery's handler falls over some of them.
                self.bury(message, f"not a Celery task: {type(error).__name__}: {error}")

        def on_message(message: Any) -> None:
            message.bury = partial(self.bury, message)
            unreadable = fault(message)
            if unreadable:
                self.bury(message, unreadable)
                return
            if trays is None:
                receive_alone(message)
                return
            unsettled.add(message)
            if not trays.take(message):
                receive_alone(message)

        self.receive_alone = receive_alone
        return on_message

    def _new_trays(self) -> Trays | None:
        """The trays of this connection: none unless asked for, and none but on AMQP and in an event loop."""
        asked_for = settings().tray_size > 1
        if not asked_for or self.hub is None or self.connection.transport.driver_type != "amqp":
            return None
        trays = Trays(self, self._unsettled)
        number = self.task_consumer.channel.channel_id
        read_in_pieces(self.connection.connection, number, self.hub)
        return trays

    def drain(self) -> None:
        """Take nothing more: what has arrived and is not begun stays the broker's."""
        with suppress(*self.connection_errors):
            self.task_consumer.cancel()
        if self._trays is not None:
            self._trays.stop()
        # Those that wait here for a free pool process.
        self.controller.semaphore.clear()

    @property
    def in_hand(self) -> bool:
        """Whether a pool process has anything: begun, or handed to it and not begun yet.

        Celery knows of the second only when it is begun; billiard's pool, which has it in its cache, would
        wait for it at its end, when nobody takes its result.
        """
        handed_over = getattr(getattr(self.pool, "_pool", None), "_cache", None)
        trays_out = self._trays is not None and self._trays.out > 0
        return bool(handed_over or state.active_requests or trays_out)

    def give_up(self) -> None:
        """End the trays that are out, with their pool processes. Celery does so for single messages."""
        if self._trays is not None:
            self._trays.kill()

    def on_close(self) -> None:
        """Forget what came over a connection that is lost: the broker will deliver it again."""
        if self._trays is not None:
            self._trays.end()
            self._trays = None
        super().on_close()

    def shutdown(self) -> None:
        """At the worker's end, settle what is eaten and give back the rest, while there is a connection."""
        if self._trays is not None:
            with suppress(*self.connection_errors):
                self._trays.settle_and_give_back()
        super().shutdown()

    def bury(self, message: Any, reason: str, traceback: str | None = None) -> None:
        """Have ``message`` copied to the dead letters with ``reason``, then acknowledged."""
        logger.error("Burying a message: %s", reason)
        letter = {
            "body": base64.b64encode(raw_body(message)).decode(),
            "properties": base64.b64encode(raw_properties(message)).decode(),
            "deliveries": deliveries(message.headers or {}),
            "routing_key": (message.delivery_info or {}).get("routing_key"),
            "reason": reason,
            "traceback": traceback,
        }
        burial: Any = Message(
            body=dumps([[letter], {}, {}]),
            delivery_tag=message.delivery_tag,
            channel=message.channel,
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": BURY, "id": uuid(), "lang": "py", "argsrepr": repr(reason), "kwargsrepr": "{}"},
            delivery_info=message.delivery_info,
            properties={},
        )
        burial.bury = partial(_keep, burial)
        if self._trays is not None:
            self._unsettled.add(burial)
        ack = promise(self.call_soon_ack, (burial.ack_log_error,))
        reject = promise(self.call_soon_ack, (burial.reject_log_error,))
        self.strategies[BURY](burial, None, ack, reject, self.on_task_message)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bury a body that is not JSON, is of a refused type, or cannot be decompressed."""
        self.bury(message, f"cannot be decoded: {exc}")

    def on_unknown_message(self, _body: object, message: Any) -> None:
        """Bury what no Celery client sent."""
        self.bury(message, "not a Celery task: it has no task header")

    def on_unknown_task(self, _body: object, message: Any, exc: Exception) -> None:
        """Bury a task that this app does not have."""
        self.bury(message, f"unknown task: {exc}")

    def on_invalid_task(self, _body: object, message: Any, exc: Exception) -> None:
        """Bury a task that Celery calls invalid."""
        self.bury(message, f"not a Celery task: {exc}")


def _keep(burial: Any, reason: str, _traceback: str | None = None) -> None:
    """A burial that fails for good gives its message back: it is tried again, up to the delivery limit."""
    logger.error("Could not bury a message: %s", reason)
    burial.requeue()
