"""Celery's settings, each with its reason. Sources: Celery's user guide, and tests with Celery 5.7."""

from typing import Any, NamedTuple

from celery.app.utils import Settings as CelerySettings

from baozi.amqp.connection import broker_url
from baozi.amqp.reading import frame_handler
from baozi.settings import settings
from baozi.topology import TYPE, Topology

#: Seconds between a soft and a hard time limit: enough to dead-letter or requeue the message.
BETWEEN_LIMITS = 10

#: The most seconds of a task: RabbitMQ closes the channel of a consumer that does not acknowledge a message
#: for longer (RabbitMQ guide "Consumers", Acknowledgement Timeout).
LONGEST_TASK = 1800

#: kombu's options for all connections, Celery's too.
UNCONFIRMED = {"frame_handler": frame_handler}
#: The same with publisher confirms, and at most 5 seconds for each read and write, for kombu's own producers.
CONFIRMED = {**UNCONFIRMED, "confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


def celery_settings() -> dict[str, Any]:
    """Return the settings of the app. Called by Celery when the first one is needed, not at import.

    Raises:
        NoBroker: no broker is known.
        UsageError: a setting is out of range.
    """
    return {**_routing(), **_limits(), **_worker(), **_broker()}


def _routing() -> dict[str, Any]:
    topology = Topology.of(settings())
    return {
        "task_queues": [topology.declared_queue()],
        "task_default_queue": topology.name,
        "task_default_exchange": topology.name,
        "task_default_exchange_type": TYPE,
        "task_default_routing_key": topology.name,
        # A misspelt queue after -Q is an error, not a new classic queue.
        "task_create_missing_queues": False,
        # Not pickle: it would let a message run code.
        "accept_content": ["json"],
    }


def _limits() -> dict[str, Any]:
    limit = settings().eat_time_limit
    return {
        "task_time_limit": limit + BETWEEN_LIMITS,
        "task_soft_time_limit": limit,
    }


def _worker() -> dict[str, Any]:
    tray = settings().tray
    return {
        "worker_consumer": "baozi.upstream.consumer:Consumer",
        # While a pool process executes one tray, the next one arrives. Without trays nothing is prefetched,
        # because a baozi that waits here could be executed by another worker. If the size of trays is
        # measured, the worker prefetches more when eating turns out to be fast.
        "worker_prefetch_multiplier": 1 if tray in (None, 1) else 2 * tray,
        # Celery's own soft shutdown is off; baozi.upstream.soft_shutdown replaces it.
        "worker_soft_shutdown_timeout": 0,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # For Flower, from the first task on.
        "worker_send_task_events": settings().task_events,
        # The course's lines go to stdout unchanged; the log goes to stderr.
        "worker_redirect_stdouts": False,
        # The logging of an embedding program or a container is not replaced.
        "worker_hijack_root_logger": False,
    }


def _broker() -> dict[str, Any]:
    return {
        "broker_url": broker_url(),
        # A worker waits for a broker that is away, at the start and later, and never needs a restart.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        # Seconds to wait for a free connection; by default for ever.
        "broker_pool_acquire_timeout": settings().broker_timeout,
        # For callers of eat.delay(). A worker's main process turns confirms off: see baozi.worker.startup.
        "broker_transport_options": CONFIRMED,
        # RabbitMQ 4.3 refuses queues that are neither durable nor exclusive; an exclusive control queue would
        # lock out a worker that comes back, under its name, before the broker noticed that the old one died.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "event_queue_exclusive": True,
    }


class Need(NamedTuple):
    """A Celery setting that the guarantee requires."""

    name: str
    value: Any
    broken: str
    """What is not guaranteed if the app sets another value."""


def needs() -> list[Need]:
    """Return the settings that an app needs, in workers and in clients. Task options are set at the task."""
    return [
        Need(
            "worker_consumer",
            "baozi.upstream.consumer:Consumer",
            "messages are not checked, and what Celery drops is lost",
        ),
        Need(
            "worker_cancel_long_running_tasks_on_connection_loss",
            True,
            "after a lost connection a task may run beside its next delivery",
        ),
        Need("worker_soft_shutdown_timeout", 0, "a stopped worker settles nothing while it waits"),
        Need("broker_connection_retry_on_startup", True, "a worker ends if the broker is away at its start"),
        Need("broker_connection_max_retries", None, "a worker ends if the broker is away for long"),
        Need("broker_channel_error_retry", True, "a worker ends when the broker closes a channel"),
        Need("broker_transport_options", CONFIRMED, "delay() may return before the broker has the message"),
        Need("broker_pool_acquire_timeout", settings().broker_timeout, "delay() may wait without an end"),
        # RabbitMQ 4.3 refuses queues that are neither durable nor exclusive.
        Need("control_queue_exclusive", False, "RabbitMQ 4.3 refuses the worker's control queue"),
        Need("control_queue_durable", True, "RabbitMQ 4.3 refuses the worker's control queue"),
        Need("event_queue_exclusive", True, "RabbitMQ 4.3 refuses the queue of a monitor"),
    ]


def apply_requirements(conf: CelerySettings) -> list[Need]:
    """Set the required settings in an app's ``conf``, except those that the app itself sets.

    Args:
        conf: the app's settings, just read.

    Returns:
        What the app has another value of.
    """
    own = []
    for need in needs():
        if not conf.value_set_for(need.name):
            conf[need.name] = need.value
        elif conf[need.name] != need.value:
            own.append(need)
    return own
