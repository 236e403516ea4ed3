"""A queue belongs to one ledger, and a ledger to one queue.

Two workers of one queue that had ledgers of their own would eat the same baozi twice. Two queues with one
ledger would take each other's keys for their own: what one has done is not executed for the other.

The queue ``NAME.ledger`` is always empty. One of its arguments is the id of the ledger: RabbitMQ refuses to
declare a queue again with other arguments, and says which it has (RabbitMQ guide "Queues", Declaration and
Property Equivalence). So the first worker claims the queue, and each other one learns whose it is, in one
step that no other worker can come between.

The ledger, in turn, has the queue's name in its table ``ledger_identity``. The name alone: an operator may
move a queue to another virtual host or broker.
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

#: How the broker names the ledger in its refusal. It cuts its text off after 255 bytes.
_CURRENT = re.compile(r"but current is '([0-9a-f-]{36})'")
#: What a refusal that was cut off leaves of a ledger's id.
UNKNOWN = "unknown"


def check_queue_belongs_to_ledger(topology: Topology, ledger_id: str, url: str | None = None) -> None:
    """Look to which ledger the queue belongs; if to none yet, make it belong to this one.

    A worker that cannot look, because it lacks the permission or the broker is away, says so and goes on.

    Args:
        topology: the queue's.
        ledger_id: what :meth:`baozi.ledger.Ledger.identity` says.
        url: where the broker is; default: the settings'.

    Raises:
        AnotherLedger: it belongs to another one.
    """
    try:
        with closing(_connection(url)) as connection:
            owner = _claim(connection, topology, ledger_id)
    except (BrokerError, Unroutable) as error:
        print(f"{error} So it is not known to which ledger the queue belongs.", file=sys.stderr)
        return
    if owner != ledger_id:
        raise AnotherLedger(
            f"The queue {topology.name} belongs to the ledger {shown(owner)}, and this worker has"
            f" {shown(ledger_id)}. Set BAOZI_LEDGER_URL to that ledger (`baozi ledger version` prints a"
            " ledger's id), or, if it is gone for good, run `baozi ledger adopt`."
        )


def check_ledger_belongs_to_queue(queue: str, ledger: Ledger) -> None:
    """Look to which queue the ledger belongs; if to none yet, make it belong to this one.

    Args:
        queue: the name of the worker's queue.
        ledger: the worker's.

    Raises:
        AnotherQueue: it belongs to another one.
        LedgerError: it cannot be used.
    """
    owner = ledger.claim(queue)
    if owner != queue:
        raise AnotherQueue(
            f"The ledger {ledger.identity()} belongs to the queue {shown(owner)}, and this worker consumes"
            f" {queue}. Give each queue a ledger of its own, or, if the queue {shown(owner)} is gone for"
            " good, run `baozi ledger adopt`."
        )


class PreviousOwners(NamedTuple):
    """To what a queue and a ledger belonged before; None: to nothing yet."""

    ledger: str | None
    """The id of the ledger to which the queue belonged."""
    queue: str | None
    """The name of the queue to which the ledger belonged."""


def adopt(topology: Topology, ledger: Ledger) -> PreviousOwners:
    """Make the queue and the ledger belong to each other.

    Args:
        topology: the queue's.
        ledger: the ledger.

    Returns:
        To what they belonged before.

    Raises:
        BrokerError: the broker cannot be used, or its user may not declare and delete the queue of the claim.
            Nothing is changed then.
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
    return connect("ledger's look", max(1, int(min(settings().broker_timeout, 86_400))), url)


def _is_claimed(connection: Connection, topology: Topology) -> bool:
    try:
        with connection.channel() as channel:
            topology.ledger_queue("")(channel).queue_declare(passive=True)
    except NotFound:
        return False
    return True


def _claim(connection: Connection, topology: Topology, ledger_id: str) -> str:
    """Make the queue belong to this ledger if it belongs to none; return the ledger to which it belongs."""
    with broker_errors():
        try:
            with connection.channel() as channel:
                topology.ledger_queue(ledger_id)(channel).queue_declare()
        except PreconditionFailed as error:
            found = _CURRENT.search(str(error.reply_text))
            return found.group(1) if found else UNKNOWN
    return ledger_id
