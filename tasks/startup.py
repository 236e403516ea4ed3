"""What a worker checks before it starts, so that a wrong setting is one sentence and an exit code."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from celery.signals import celeryd_init, worker_process_init

from baozi.errors import BaoziError, BrokerAway, UsageError
from baozi.ledger import Ledger
from baozi.settings import settings
from tasks import belonging, topology
from tasks.app import app
from tasks.config import CONFIRMED, UNCONFIRMED
from tasks.connection import broker_url, check_same_broker, connect, using

#: This worker's ledger, as :func:`tasks.belonging.described` says, once it is opened.
_own: dict[str, str] = {}


@celeryd_init.connect
def check(conf: Any = None, options: dict[str, Any] | None = None, **_: object) -> None:
    """Check queues, ledger and broker; declare the topology. A broker that is away is waited for, later."""
    _open_what_is_closed()
    # Celery announces its shutdown on stdout, which is for the course's lines alone.
    setattr(sys, "__stdout__", sys.__stderr__)  # noqa: B010  # typed as final, though it is there to be set
    try:
        _check_queues((options or {}).get("queues"))
        _open_ledger()
        # In a worker's main process a confirm that an alarm holds up would stop the consuming that ends the
        # alarm. What the main process sends, events and replies, needs none; a child turns them on again.
        # Its waits for an answer are bounded: a broker that accepts and says nothing more is left.
        conf.broker_transport_options = UNCONFIRMED | {"read_timeout": settings().broker_timeout}
        # What Celery would use: its own variables and options come before our setting.
        for name in ("broker_read_url", "broker_write_url"):
            check_same_broker(f"Celery's {name}", getattr(conf, name), broker_url())
        _declare()
    except BaoziError as error:
        give_up(error)


def _open_what_is_closed() -> None:
    """Have an output that was closed when Python started lead nowhere: billiard cannot fork without one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # for as long as we run
            setattr(sys, f"__{name}__", getattr(sys, name))


@worker_process_init.connect
def confirm_in_children(**_: object) -> None:
    """Let tasks of a pool process publish with confirms and bounded waits."""
    app.conf.broker_transport_options = CONFIRMED


def _check_queues(queues: str | list[str] | None) -> None:
    names = queues.split(",") if isinstance(queues, str) else queues or []
    for name in names:
        if name != topology.NAME:
            raise UsageError(f"There is no queue {name!r} to work on; the queue is {topology.NAME!r}.")


def _open_ledger() -> None:
    """See that the ledger can be used. It is closed again, so that no pool process inherits it."""
    with closing(Ledger(settings().ledger).open()) as ledger:
        _own.update(belonging.described(ledger))


def see_that_the_queue_is_ours() -> None:
    """See that the queue belongs to this worker's ledger.

    Raises:
        AnotherLedger: it belongs to another one.
    """
    if _own:
        belonging.see_that_the_queue_is_ours(_own)


def _declare() -> None:
    try:
        connection = connect("worker's start")
    except BrokerAway as error:
        print(f"{error} Waiting for it.", file=sys.stderr)
        return
    with connection, using():
        topology.declare(connection, settings())
    see_that_the_queue_is_ours()


def give_up(error: BaoziError) -> NoReturn:
    """End the worker with the error's one sentence and its exit code."""
    # SystemExit passes through Celery's signal handling; any other exception would only be logged.
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
