"""Checks a worker's settings before it starts. An error is one sentence and an exit code."""

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

#: The id of this worker's ledger; empty until the ledger was opened.
_own_ledger_ids: list[str] = []

logger = get_logger(__name__)

#: Open files that a worker needs, and those that each pool process adds. With four processes, 40 were enough.
_FILES, _FILES_OF_A_PROCESS = 48, 6
#: Celery's name of a consumer if ``-n`` names none.
_DEFAULT_CONSUMER = "celery"
#: The most bytes of a node name. Celery appends some words and uses it as a queue's name, which has at most
#: 255.
_LONGEST_NODE_NAME = 200
#: Options of the command line that are numbers. Celery accepts negative ones and fails later.
_NUMBERS = (
    "prefetch_multiplier",
    "time_limit",
    "soft_time_limit",
    "max_tasks_per_child",
    "max_memory_per_child",
    "heartbeat_interval",
    "autoscale",
)


class Guarded(Protocol):
    """The part of :class:`baozi.reliable.Reliable` that is checked."""

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
        """Whether the app has no other tasks than the guaranteed ones."""

    @property
    def largest_batch(self) -> int:
        """The most messages that one pool process gets at once, where the number is fixed."""

    @property
    def has_measured_batches(self) -> bool:
        """Whether the size of some task's batches depends on what its function takes."""

    @property
    def not_promised(self) -> Sequence[Need]:
        """Required settings to which the app gives another value."""


def check(reliable: Guarded, instance: Any, conf: Any, options: dict[str, Any]) -> None:
    """Check name, queues, ledger and broker, and declare the topology.

    If the broker is away, the worker starts and waits for it later. Other errors end the process.

    Args:
        reliable: the guarantee of the worker's app.
        instance: the worker.
        conf: the settings of its app.
        options: the options of the worker's command line, by name.
    """
    _reopen_closed_outputs()
    if reliable.whole_app:
        keep_off_stdout(instance)
    restart_with_the_same_command()
    _ignore_usr2()
    try:
        instance.hostname = _node_name(instance.hostname, sys.argv)
        check_options(options)
        if reliable.whole_app:
            _check_queues(reliable.topology, _listed(options, "queues"), _listed(options, "exclude_queues"))
        _check_open_files(options.get("concurrency") or conf.worker_concurrency or cpu_count())
        _open_ledger(reliable)
        # The main process does not use confirms. During an alarm it would wait for a confirm, and so would
        # not consume, which could end the alarm. Events and replies need no confirm. Pool processes turn
        # confirms on again. The read timeout ends a connection to a broker that no longer answers.
        unconfirmed = UNCONFIRMED | {"read_timeout": settings().broker_timeout, "confirm_publish": False}
        conf.broker_transport_options = {**conf.broker_transport_options, **unconfirmed}
        instance.prefetched = _prefetched(reliable.largest_batch, conf, options)
        instance.prefetch_is_adapted = reliable.has_measured_batches and not _sets_prefetch(
            reliable, conf, options
        )
        for need in reliable.not_promised:
            own = getattr(conf, need.name)
            print(f"This app sets {need.name} to {shown(repr(own))}: {need.broken}.", file=sys.stderr)
        # Celery's own variables and options override the project's setting.
        for name in ("broker_read_url", "broker_write_url"):
            check_same_broker(f"Celery's {name}", getattr(conf, name), reliable.broker)
        _declare(reliable)
    except BaoziError as error:
        exit_with_error(error)


def _prefetched(largest_batch: int, conf: Any, options: dict[str, Any]) -> int:
    """Return how many messages the worker prefetches for each pool process.

    Two batches: one in the pool process and the next one. A value of the app or the command line is kept.
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


def _sets_prefetch(reliable: Guarded, conf: Any, options: dict[str, Any]) -> bool:
    """Return whether the app or the command line says how many messages are prefetched."""
    own = conf.worker_prefetch_multiplier
    asked: int = options.get("prefetch_multiplier") or own
    return asked != own or (not reliable.whole_app and conf.value_set_for("worker_prefetch_multiplier"))


def _reopen_closed_outputs() -> None:
    """Replace stdout or stderr by /dev/null if it was closed at start: billiard cannot fork without them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # open until the process ends
            setattr(sys, f"__{name}__", getattr(sys, name))


def _ignore_usr2() -> None:
    """Prevent SIGUSR2 from ending the worker. Celery handles it only with ``CELERY_RDBSIG``."""

    def tell(_number: int, _frame: object) -> None:
        logger.warning("SIGUSR2 does nothing. To debug a worker by it, start it with CELERY_RDBSIG=1.")

    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR2, tell)


def _node_name(name: str, arguments: Sequence[str]) -> str:
    """Return the worker's node name, ``consumer@machine``.

    Args:
        name: Celery's reading of ``-n``. Without an ``@`` Celery takes it as the machine of a consumer
            "celery".
        arguments: the arguments of the command line.

    Raises:
        UsageError: the consumer's or the machine's name is invalid.
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
        raise UsageError(
            "The worker's node name is over {longest} bytes long.",
            longest=_LONGEST_NODE_NAME,
        )
    return name


def _listed(options: dict[str, Any], name: str) -> list[str]:
    """Return an option that has several values, separated by commas if a program passes a text."""
    values: str | list[str] = options.get(name) or []
    return values.split(",") if isinstance(values, str) else values


def check_options(options: dict[str, Any]) -> None:
    """Check the options that Celery accepts and with which its worker fails later.

    Raises:
        UsageError: one of them cannot be used.
    """
    for name in _NUMBERS:
        value = options.get(name)
        if value and min(value if isinstance(value, tuple) else (value,)) < 0:
            raise UsageError(
                "The worker's option --{option} must not be negative.", option=name.replace("_", "-")
            )
    if "" in _listed(options, "include"):
        raise UsageError("The worker's option --include names no module.")
    folder = Path(options.get("pidfile") or ".").parent
    if not os.access(folder, os.W_OK):
        raise UsageError(
            "The folder of the worker's option --pidfile cannot be written: {folder}.", folder=shown(folder)
        )


def _check_queues(topology: Topology, names: Sequence[str], excluded: Sequence[str]) -> None:
    for name in names:
        if name != topology.name:
            raise UsageError(
                "A worker of this app cannot consume the queue {name!r}. Its queue is {queue!r}.",
                name=name,
                queue=topology.name,
            )
    if topology.name in excluded:
        raise UsageError(
            "The worker's option --exclude-queues excludes {queue!r}, the only queue of this app.",
            queue=topology.name,
        )


def _check_open_files(processes: int) -> None:
    needed = _FILES + _FILES_OF_A_PROCESS * processes
    allowed = getrlimit(RLIMIT_NOFILE)[0]
    if allowed < needed:
        raise UsageError(
            "A worker with {processes} processes needs {needed} open files, and this one may have"
            " {allowed}. Run `ulimit -n {needed}` first.",
            processes=processes,
            needed=needed,
            allowed=allowed,
        )


def _open_ledger(reliable: Guarded) -> None:
    """Check that the ledger can be used, belongs to this queue, and is not used by another machine.

    The ledger is closed again, so that no pool process inherits its connection.
    """
    with closing(Ledger(reliable.ledger).open()) as ledger:
        queue_ownership.check_ledger_belongs_to_queue(reliable.topology.name, ledger)
        _own_ledger_ids[:] = [ledger.identity()]
        if ledger.file is not None:
            one_machine.use(ledger.file)


def own_ledger_ids() -> list[str]:
    """Return the id of this worker's ledger; an empty list before the ledger was opened."""
    return list(_own_ledger_ids)


def check_queue_belongs_to_own_ledger(reliable: Guarded) -> None:
    """Check that the queue belongs to this worker's ledger.

    Args:
        reliable: the guarantee of the worker's app.

    Raises:
        AnotherLedger: the queue belongs to another ledger.
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
    """Print the error and end the process with its exit code."""
    # SystemExit passes through Celery's signal handling; any other exception would only be logged.
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
