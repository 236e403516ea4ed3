"""Ensures that a queue belongs to one ledger, and a ledger to one queue.

If two workers of one queue had different ledgers, both could execute the same baozi. If two queues had one
ledger, a key of one queue could prevent the execution of the same key of the other.

The queue ``NAME.ledger`` is always empty. One of its arguments is the id of the ledger. RabbitMQ refuses to
declare a queue again with other arguments, and the error contains the present ones (RabbitMQ guide "Queues",
Declaration and Property Equivalence). So one atomic step claims the queue or returns the ledger to which it
belongs.

The ledger has the queue's name in its table ``ledger_identity``: only the name, because an operator may move
a queue to another virtual host or broker.
"""

import re
import sys
from contextlib import closing
from typing import NamedTuple

from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection

from baozi.amqp.connection import broker_errors, connect
from baozi.errors import AnotherLedger, AnotherQueue, BrokerError, Unroutable
from baozi.ledger import Ledger
from baozi.settings import settings
from baozi.shown import shown
from baozi.topology import Topology

#: The ledger's id in the broker's error text, which is cut after 255 bytes.
_CURRENT = re.compile(r"but current is '([0-9a-f-]{36})'")
#: The ledger's id if the error text was cut.
UNKNOWN = "unknown"


def check_queue_belongs_to_ledger(topology: Topology, ledger_id: str, url: str | None = None) -> None:
    """Check that the queue belongs to this ledger. If it belongs to none yet, claim it.

    If this cannot be checked, because the permission is missing or the broker does not answer, print a line
    on stderr and return.

    Args:
        topology: the queue's topology.
        ledger_id: the result of :meth:`baozi.ledger.Ledger.identity`.
        url: the broker's URL. Default: the URL in the settings.

    Raises:
        AnotherLedger: the queue belongs to another ledger.
    """
    try:
        with closing(_connection(url)) as connection:
            owner = _claim(connection, topology, ledger_id)
    except (BrokerError, Unroutable) as error:
        print(f"{error} So it is not known to which ledger the queue belongs.", file=sys.stderr)
        return
    if owner != ledger_id:
        raise AnotherLedger(
            "The queue {name} belongs to the ledger {owner}, and this worker has {ledger_id}."
            " Set BAOZI_LEDGER_URL to that ledger (`baozi ledger version` prints a ledger's id),"
            " or, if it is gone for good, run `baozi ledger adopt`.",
            name=topology.name,
            owner=shown(owner),
            ledger_id=shown(ledger_id),
        )


def check_ledger_belongs_to_queue(queue: str, ledger: Ledger) -> None:
    """Check that the ledger belongs to this queue. If it belongs to none yet, claim it.

    Args:
        queue: the name of the worker's queue.
        ledger: the worker's ledger.

    Raises:
        AnotherQueue: the ledger belongs to another queue.
        LedgerError: the ledger cannot be used.
    """
    owner = ledger.claim(queue)
    if owner != queue:
        raise AnotherQueue(
            "The ledger {ledger} belongs to the queue {owner}, and this worker consumes {queue}."
            " Give each queue a ledger of its own, or, if the queue {owner} is gone for good,"
            " run `baozi ledger adopt`.",
            ledger=ledger.identity(),
            owner=shown(owner),
            queue=queue,
        )


class PreviousOwners(NamedTuple):
    """The previous owners of a queue and a ledger, as :func:`adopt` returns them. None means no owner."""

    ledger: str | None
    """The id of the ledger to which the queue belonged."""
    queue: str | None
    """The name of the queue to which the ledger belonged."""


def adopt(topology: Topology, ledger: Ledger) -> PreviousOwners:
    """Make the queue and the ledger belong to each other.

    Args:
        topology: the queue's topology.
        ledger: the ledger.

    Returns:
        The owners that they had before.

    Raises:
        BrokerError: the broker cannot be used, or its user may not declare and delete the queue
            ``NAME.ledger``. Nothing is changed then.
        LedgerError: the ledger cannot be read or written.
    """
    ledger_id, queue = ledger.identity(), ledger.queue()
    before = _adopt_queue(topology, ledger_id)
    ledger.give_to(topology.name)
    return PreviousOwners(before, queue)


def _adopt_queue(topology: Topology, ledger_id: str) -> str | None:
    with closing(_connection()) as connection:
        before = _claim(connection, topology, ledger_id) if _is_claimed(connection, topology) else None
        if before != ledger_id:
            with broker_errors(), connection.channel() as channel:
                topology.ledger_queue(ledger_id)(channel).delete()
            _claim(connection, topology, ledger_id)
    return before


def _connection(url: str | None = None) -> Connection:
    return connect("queue ownership", max(1, int(min(settings().broker_timeout, 86_400))), url)


def _is_claimed(connection: Connection, topology: Topology) -> bool:
    try:
        with connection.channel() as channel:
            topology.ledger_queue("")(channel).queue_declare(passive=True)
    except NotFound:
        return False
    return True


def _claim(connection: Connection, topology: Topology, ledger_id: str) -> str:
    """Claim the queue for this ledger if it has no owner. Return the id of the ledger that owns it now."""
    with broker_errors():
        try:
            with connection.channel() as channel:
                topology.ledger_queue(ledger_id)(channel).queue_declare()
        except PreconditionFailed as error:
            found = _CURRENT.search(str(error.reply_text))
            return found.group(1) if found else UNKNOWN
    return ledger_id
