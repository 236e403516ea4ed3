"""The queue belongs to one ledger: two workers with ledgers of their own would eat the same baozi twice.

The queue ``baozi.ledger`` holds one message, which names the ledger. The first worker puts it there, and each
worker looks at it when it connects. A worker that looks is the queue's exclusive consumer, so that only one
looks at a time. It puts a mark behind what is in the queue: when the mark arrives, all before it has.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from random import uniform
from typing import Any
from uuid import uuid4

from kombu import Connection, Producer

from baozi.errors import AnotherLedger, BrokerAway, BrokerError, NotPermitted, PutRefused
from baozi.ledger import Ledger
from baozi.settings import settings
from baozi.shown import shown
from tasks import topology
from tasks.confirms import ConfirmedChannel
from tasks.connection import connect, using

#: Seconds for the broker to confirm the mark. While a memory or disk alarm is on, it does not.
_CONFIRMED = 5
#: Seconds of the shortest and of the longest pause before the next try while another worker looks.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.2
#: The field of a mark.
_MARK = "mark"


def see_that_the_queue_is_ours(ledger: dict[str, str]) -> None:
    """Look to which ledger the queue belongs; if to none yet, make it belong to ``ledger``.

    A worker that cannot look, because it lacks the permission or the broker is away or blocked, says so and
    goes on.

    Args:
        ledger: what :func:`described` says.

    Raises:
        AnotherLedger: it belongs to another one.
    """
    try:
        belongs_to = _look(ledger, adopt=False)
    except (BrokerError, PutRefused) as error:
        print(f"{error} So it is not known to which ledger the queue belongs.", file=sys.stderr)
        return
    if belongs_to is not None and belongs_to["id"] != ledger["id"]:
        raise AnotherLedger(
            f"The queue {topology.NAME} belongs to the ledger {_named(belongs_to)}, and this worker has"
            f" {_named(ledger)}. Set BAOZI_LEDGER_URL to the first, or, if it is gone for good, run"
            " `baozi ledger adopt`."
        )


def adopt(ledger: dict[str, str]) -> str | None:
    """Make the queue belong to ``ledger``.

    Returns:
        The ledger to which it belonged before, in words, or None if to none.

    Raises:
        BrokerError, PutRefused: the broker cannot be used.
    """
    before = _look(ledger, adopt=True)
    return None if before is None else _named(before)


def described(ledger: Ledger) -> dict[str, str]:
    """Return a ledger's identity and its place.

    Raises:
        LedgerError: it cannot be read.
    """
    return {"id": ledger.identity(), "place": ledger.place}


def _named(ledger: dict[str, str]) -> str:
    return f"{shown(ledger['id'])} ({shown(ledger.get('place', '?'))})"


def _look(ledger: dict[str, str], adopt: bool) -> dict[str, str] | None:
    """Return the ledger that the queue names. If it names none, or to ``adopt``, have it name ours."""
    deadline = time.monotonic() + settings().broker_timeout
    connection = connect("ledger's look", timeout=max(1, int(deadline - time.monotonic())))
    publisher = ConfirmedChannel(connection)
    try:
        # In memory there are no confirms, and no other process sees the queue.
        return _look_over(connection, publisher, ledger, adopt, deadline) if publisher.takes_frames else None
    finally:
        publisher.close()


def _look_over(
    connection: Connection, publisher: ConfirmedChannel, ledger: dict[str, str], adopt: bool, deadline: float
) -> dict[str, str] | None:
    arrived: list[Any] = []
    channel = _only_consumer(connection, arrived.append, deadline)
    mark = uuid4().hex
    publisher.publish(partial(_send, {_MARK: mark}), min(deadline, time.monotonic() + _CONFIRMED))
    _wait_for(lambda: any(_parsed(message).get(_MARK) == mark for message in arrived), connection, deadline)
    before = list(arrived)
    named = next((message for message in before if "id" in _parsed(message)), None)
    if named is None or adopt:
        publisher.publish(partial(_send, ledger), deadline)
        # py-amqp would warn of a message that arrives while the channel is closed.
        _wait_for(lambda: len(arrived) > len(before), connection, deadline)
    with using():
        for message in before:
            if message is not named or adopt:
                channel.basic_ack(message.delivery_tag)
        # What is not acknowledged goes back to the queue, and only then can another worker look.
        channel.close()
    return None if named is None else _parsed(named)


def _only_consumer(connection: Connection, callback: Callable[[Any], object], deadline: float) -> Any:
    """Return a channel on which we are the queue's only consumer; wait while another worker is."""
    while True:
        try:
            with using():
                channel: Any = connection.channel()
                channel.basic_consume(topology.LEDGER, callback=callback, exclusive=True)
                return channel
        except NotPermitted as error:
            if "exclusive use" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE))


def _send(item: dict[str, str], producer: Producer) -> None:
    producer.publish(
        item,
        exchange=topology.LEDGER,
        routing_key=topology.LEDGER,
        serializer="json",
        mandatory=True,
        retry=False,
    )


def _wait_for(condition: Callable[[], bool], connection: Connection, deadline: float) -> None:
    with using():
        while not condition():
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                connection.drain_events(timeout=left)
            except TimeoutError:
                raise BrokerAway(
                    "The broker did not say in time to which ledger the queue belongs."
                ) from None


def _parsed(message: Any) -> dict[str, str]:
    """What stands in a message of the queue; nothing if it is none of ours."""
    try:
        item = json.loads(message.body)
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(item, dict) or not all(isinstance(value, str) for value in item.values()):
        return {}
    return item
