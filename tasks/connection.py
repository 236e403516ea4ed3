"""Connections to the broker: named after who opens them, bounded in time, their errors in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, NotFound
from kombu import Connection
from kombu.exceptions import OperationalError

from baozi import broker
from baozi.errors import BrokerAway, BrokerRefused, NotPermitted, NoVirtualHost, Unroutable
from tasks.decoding import frame_handler

#: Seconds for one TCP connection and its handshake. A broker on a sane network needs a few milliseconds.
CONNECT_TIMEOUT = 5


@cache
def broker_url() -> str:
    """Return the URL of the broker to use, password and all: not for a log.

    Raises:
        NoBroker: none is known.
    """
    return broker.find().url


def connect(
    name: str, timeout: int = CONNECT_TIMEOUT, url: str | None = None, heartbeat: int = 0, turn: int = 0
) -> Connection:
    """Open a connection that the broker's own pages show as ``name``, within ``timeout`` seconds.

    The caller settles the fate of what it publishes itself (:mod:`tasks.confirms`), so that kombu's own
    confirms, which have no deadline, stay off.

    Args:
        name: who opens it.
        timeout: seconds that this may take in all.
        url: where to; default: the broker of the settings.
        heartbeat: seconds within which each side sends at least one; 0 for none.
        turn: where in a cluster's list of nodes to begin, counted round and round.

    Raises:
        BrokerAway: nobody answers in time.
        BrokerRefused: the user or the password is wrong.
        NoVirtualHost: the virtual host is not there, or not this user's.
        NoBroker: no broker is known.
    """
    options = {
        "client_properties": {"connection_name": f"baozi {name}"},
        "read_timeout": CONNECT_TIMEOUT,
        "write_timeout": CONNECT_TIMEOUT,
        "frame_handler": frame_handler,
    }
    connection = Connection(
        _beginning_with(turn, url or broker_url()),
        connect_timeout=min(timeout, CONNECT_TIMEOUT),
        heartbeat=heartbeat,
        transport_options=options,
    )
    # Each node of a cluster is tried once, without a pause.
    others = len(connection.alt or [None]) - 1
    with connecting(connection.as_uri()):
        opened: Any = connection.ensure_connection(max_retries=others, interval_start=0, timeout=timeout)
    if opened.transport.driver_type == "amqp":
        # py-amqp has no other limit for a frame whose rest does not come: it would wait for that for ever.
        opened.connection.transport.sock.settimeout(CONNECT_TIMEOUT)
    return cast(Connection, opened)


def _beginning_with(turn: int, url: str) -> str:
    nodes = url.split(";")
    first = turn % len(nodes)
    return ";".join(nodes[first:] + nodes[:first])


@contextmanager
def connecting(uri: str) -> Iterator[None]:
    """Turn what goes wrong while connecting to ``uri`` (without its password) into our errors."""
    try:
        yield
    except AccessRefused as error:
        raise BrokerRefused(
            f"The broker at {uri} refuses the user or the password; mend BAOZI_BROKER_URL."
        ) from error
    except NotAllowed as error:
        raise NoVirtualHost(
            f"The broker at {uri} has no such virtual host, or the user may not enter it; mend"
            " BAOZI_BROKER_URL."
        ) from error
    except (OSError, OperationalError, AMQPError) as error:
        raise BrokerAway(
            f"The broker at {uri} does not answer ({_reason(error)}); see that it runs and that the"
            " address is right."
        ) from error


@contextmanager
def using() -> Iterator[None]:
    """Turn what goes wrong on an open connection into our errors."""
    try:
        yield
    except AccessRefused as error:
        raise NotPermitted(f"The broker does not permit this: {error.reply_text}.") from error
    except NotFound as error:
        raise Unroutable(f"The broker has no such exchange or queue: {error.reply_text}.") from error
    except (OSError, OperationalError, AMQPError) as error:
        raise BrokerAway(f"The connection to the broker was lost ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    text = str(error) or str(error.__cause__ or "") or type(error).__name__
    return text.splitlines()[0].rstrip(".")
