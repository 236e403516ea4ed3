"""The queue belongs to one ledger: two workers with ledgers of their own would eat the same baozi twice.

The queue ``NAME.ledger`` is always empty. One of its arguments is the id of the ledger: RabbitMQ refuses to
declare a queue again with other arguments, and says which it has (RabbitMQ guide "Queues", Declaration and
Property Equivalence). So the first worker claims the queue, and each other one learns whose it is, in one
step that no other worker can come between.
"""

import re
import sys
from contextlib import closing

from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection

from baozi.amqp.connection import connect, using
from baozi.errors import AnotherLedger, BrokerError, Unroutable
from baozi.settings import settings
from baozi.shown import shown
from baozi.topology import Topology

#: How the broker names the ledger in its refusal. It cuts its text off after 255 bytes.
_CURRENT = re.compile(r"but current is '([0-9a-f-]{36})'")
#: What a refusal that was cut off leaves of a ledger's id.
UNKNOWN = "unknown"


def see_that_it_is_ours(topology: Topology, ledger_id: str, url: str | None = None) -> None:
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
            owner = _claimed(connection, topology, ledger_id)
    except (BrokerError, Unroutable) as error:
        print(f"{error} So it is not known to which ledger the queue belongs.", file=sys.stderr)
        return
    if owner != ledger_id:
        raise AnotherLedger(
            f"The queue {topology.name} belongs to the ledger {shown(owner)}, and this worker has"
            f" {shown(ledger_id)}. Set BAOZI_LEDGER_URL to that ledger (`baozi ledger version` prints a"
            " ledger's id), or, if it is gone for good, run `baozi ledger adopt`."
        )


def adopt(topology: Topology, ledger_id: str) -> str | None:
    """Make the queue belong to this ledger.

    Args:
        topology: the queue's.
        ledger_id: the ledger's id.

    Returns:
        The id of the ledger to which it belonged before, or None if to none.

    Raises:
        BrokerError: the broker cannot be used, or its user may not declare and delete that queue.
    """
    with closing(_connection()) as connection:
        before = _claimed(connection, topology, ledger_id) if _is_claimed(connection, topology) else None
        if before != ledger_id:
            with using(), connection.channel() as channel:
                topology.ledger_queue(ledger_id)(channel).delete()
            _claimed(connection, topology, ledger_id)
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


def _claimed(connection: Connection, topology: Topology, ledger_id: str) -> str:
    """Make the queue belong to this ledger if it belongs to none; return the ledger to which it belongs."""
    with using():
        try:
            with connection.channel() as channel:
                topology.ledger_queue(ledger_id)(channel).queue_declare()
        except PreconditionFailed as error:
            found = _CURRENT.search(str(error.reply_text))
            return found.group(1) if found else UNKNOWN
    return ledger_id
