"""What a worker checks before it starts, so that a wrong setting is one sentence and an exit code."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from socket import gethostname
from typing import Any, NoReturn, Protocol

from billiard import cpu_count
from celery.utils.log import get_logger
from sqlalchemy import URL

from baozi import one_machine, queue_ownership
from baozi.amqp.connection import broker_errors, check_same_broker, connect
from baozi.errors import BaoziError, BrokerAway, UsageError
from baozi.ledger import Ledger
from baozi.model import checked_name
from baozi.settings import settings
from baozi.shown import shown
from baozi.topology import Topology
from baozi.upstream.restart import restart_with_the_same_command
from baozi.upstream.stdout import keep_off_stdout
from baozi.worker.configuration import UNCONFIRMED, Need

#: The id of this worker's ledger, once it was opened.
_own_ledger_ids: list[str] = []

logger = get_logger(__name__)

#: Files that a worker has open, and those that each process of its pool adds. With four, 40 were enough.
_FILES, _FILES_OF_A_PROCESS = 48, 6
#: The consumer of a node name that names none.
_DEFAULT_CONSUMER = "celery"
#: Bytes of a node name: Celery makes a queue's name of it, of at most 255, with some words behind.
_LONGEST_NODE_NAME = 200


class Guarded(Protocol):
    """What is checked of a worker's guarantee (:class:`baozi.reliable.Reliable`)."""

    @property
    def topology(self) -> Topology:
        """The queues."""

    @property
    def ledger(self) -> URL:
        """The ledger's URL."""

    @property
    def broker(self) -> str:
        """The broker's URL."""

    @property
    def whole_app(self) -> bool:
        """Whether the app is nothing but this."""

    @property
    def largest_batch(self) -> int:
        """How many messages one pool process may get at once."""

    @property
    def not_promised(self) -> Sequence[Need]:
        """Settings that the app has set otherwise."""


def check(reliable: Guarded, instance: Any, conf: Any, options: dict[str, Any]) -> None:
    """Check name, queues, ledger and broker, and declare the topology.

    A broker that is away is waited for later. What cannot be mended ends the worker.

    Args:
        reliable: the guarantee of the worker's app.
        instance: the worker.
        conf: its app's settings.
        options: the worker's options by name, as its command line has them.
    """
    _reopen_closed_outputs()
    if reliable.whole_app:
        keep_off_stdout(instance)
    restart_with_the_same_command()
    _ignore_usr2()
    try:
        instance.hostname = _node_name(instance.hostname, sys.argv)
        if reliable.whole_app:
            _check_queues(reliable.topology, options.get("queues"))
        _check_open_files(options.get("concurrency") or conf.worker_concurrency or cpu_count())
        _open_ledger(reliable)
        # In a worker's main process a confirm that an alarm holds up would stop the consuming that ends the
        # alarm. What the main process sends, events and replies, needs none; a child turns them on again.
        # Its waits for an answer are bounded: a broker that accepts and says nothing more is left.
        unconfirmed = UNCONFIRMED | {"read_timeout": settings().broker_timeout, "confirm_publish": False}
        conf.broker_transport_options = {**conf.broker_transport_options, **unconfirmed}
        instance.prefetched = _prefetched(reliable.largest_batch, conf, options)
        for need in reliable.not_promised:
            own = getattr(conf, need.name)
            print(f"This app sets {need.name} to {shown(repr(own))}: {need.broken}.", file=sys.stderr)
        # What Celery would use: its own variables and options come before our setting.
        for name in ("broker_read_url", "broker_write_url"):
            check_same_broker(f"Celery's {name}", getattr(conf, name), reliable.broker)
        _declare(reliable)
    except BaoziError as error:
        exit_with_error(error)


def _prefetched(largest_batch: int, conf: Any, options: dict[str, Any]) -> int:
    """Return how many messages the worker fetches for each pool process: enough for whole batches.

    While a pool process has a batch, the next one arrives. What the app or its command line sets stays.
    """
    wanted, own = 2 * largest_batch, conf.worker_prefetch_multiplier
    asked: int = options.get("prefetch_multiplier") or own
    if largest_batch == 1 or asked >= wanted:
        return asked
    if asked == own and not conf.value_set_for("worker_prefetch_multiplier"):
        return wanted
    print(
        f"This worker prefetches {asked} messages for each pool process: batches of {largest_batch} need"
        f" {wanted}, so they are smaller. Leave worker_prefetch_multiplier unset, or raise it.",
        file=sys.stderr,
    )
    return asked


def _reopen_closed_outputs() -> None:
    """Have an output that was closed when Python started lead nowhere: billiard cannot fork without one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # for as long as we run
            setattr(sys, f"__{name}__", getattr(sys, name))


def _ignore_usr2() -> None:
    """Keep SIGUSR2 from ending the worker. Without ``CELERY_RDBSIG`` Celery has no use for it."""

    def tell(_number: int, _frame: object) -> None:
        logger.warning("SIGUSR2 does nothing. To debug a worker by it, start it with CELERY_RDBSIG=1.")

    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR2, tell)


def _node_name(name: str, arguments: Sequence[str]) -> str:
    """Return the worker's node name, ``consumer@machine``, if it names a consumer.

    Args:
        name: as Celery understood ``-n``: without an ``@``, as the machine of a consumer called celery.
        arguments: the command line's.

    Raises:
        UsageError: the consumer's name may not be one, or the machine's.
    """
    consumer, _, machine = name.partition("@")
    meant = any(f"{_DEFAULT_CONSUMER}@" in argument for argument in arguments)
    if consumer == _DEFAULT_CONSUMER and machine != gethostname() and not meant:
        consumer, machine = machine, gethostname()
    checked_name(consumer, "consumer")
    name = f"{consumer}@{machine}"
    if not machine.isprintable():
        raise UsageError("The worker's node name must not contain control characters.")
    if len(name.encode()) > _LONGEST_NODE_NAME:
        raise UsageError(f"The worker's node name is over {_LONGEST_NODE_NAME} bytes long.")
    return name


def _check_queues(topology: Topology, queues: str | list[str] | None) -> None:
    names = queues.split(",") if isinstance(queues, str) else queues or []
    for name in names:
        if name != topology.name:
            raise UsageError(f"There is no queue {name!r} to work on; the queue is {topology.name!r}.")


def _check_open_files(processes: int) -> None:
    needed = _FILES + _FILES_OF_A_PROCESS * processes
    allowed = getrlimit(RLIMIT_NOFILE)[0]
    if allowed < needed:
        raise UsageError(
            f"A worker with {processes} processes needs {needed} open files, and this one may have {allowed}."
            f" Run `ulimit -n {needed}` first."
        )


def _open_ledger(reliable: Guarded) -> None:
    """See that the ledger can be used, belongs to this queue, and is used by no other machine.

    It is closed again, so that no pool process inherits it.
    """
    with closing(Ledger(reliable.ledger).open()) as ledger:
        queue_ownership.check_ledger_belongs_to_queue(reliable.topology.name, ledger)
        _own_ledger_ids[:] = [ledger.identity()]
        if ledger.file is not None:
            one_machine.use(ledger.file)


def own_ledger_ids() -> list[str]:
    """Return the id of this worker's ledger, once it was opened; before, nothing."""
    return list(_own_ledger_ids)


def check_queue_belongs_to_own_ledger(reliable: Guarded) -> None:
    """See that the queue belongs to this worker's ledger.

    Args:
        reliable: the guarantee of the worker's app.

    Raises:
        AnotherLedger: it belongs to another one.
    """
    for ledger_id in _own_ledger_ids:
        queue_ownership.check_queue_belongs_to_ledger(reliable.topology, ledger_id, reliable.broker)


def _declare(reliable: Guarded) -> None:
    try:
        connection = connect("worker's start", url=reliable.broker)
    except BrokerAway as error:
        print(f"{error} Waiting for it.", file=sys.stderr)
        return
    with connection, broker_errors():
        reliable.topology.declare(connection)
    check_queue_belongs_to_own_ledger(reliable)


def exit_with_error(error: BaoziError) -> NoReturn:
    """End the worker with the error's one sentence and its exit code."""
    # SystemExit passes through Celery's signal handling; any other exception would only be logged.
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
