"""Connections to the broker: named after who opens them, bounded in time, their errors in one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import ceil
from typing import Any, cast

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, NotFound
from kombu import Connection
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from baozi import broker
from baozi.amqp.reading import frame_handler
from baozi.broker_url import nodes
from baozi.errors import BrokerAway, BrokerRefused, NotPermitted, NoVirtualHost, Unroutable, UsageError
from baozi.settings import settings
from baozi.upstream.tls import check_hosts

check_hosts()

#: Seconds for one TCP connection and its handshake. A broker on a sane network needs a few milliseconds.
CONNECT_TIMEOUT = 5
#: Seconds that a connection is given even when the caller's time is over: a healthy broker may need that, and
#: 0 means "do not block" to a socket.
_SHORTEST_TIMEOUT = 1


@cache
def broker_url() -> str:
    """Return the URL of the broker to use, password and all: not for a log.

    Raises:
        NoBroker: none is known.
        UsageError: one of Celery's own variables names another broker.
    """
    url = broker.find().url
    chosen = settings()
    for name in ("celery_broker_url", "celery_broker_read_url", "celery_broker_write_url"):
        other: SecretStr | None = getattr(chosen, name)
        if other and other.get_secret_value():
            check_same_broker(name.upper(), other.get_secret_value(), url)
    return url


def check_same_broker(name: str, other: str, ours: str) -> None:
    """Check that ``other``, a URL that Celery would use instead of ``ours``, names the same broker.

    Celery prefers its variables to any setting, silently: a worker would eat from one broker, while
    producers, the dead letters' commands and the audit use another.

    Args:
        name: what has the value ``other``.
        other: a broker's URL, maybe not a valid one.
        ours: the URL of the broker that everything else uses.

    Raises:
        UsageError: it is another.
    """
    try:
        same = nodes(other) == nodes(ours)
    except ValueError:
        same = False
    if not same:
        raise UsageError(
            f"{name} names another broker than BAOZI_BROKER_URL or `baozi broker start`. Unset it (celery's"
            " option -b sets CELERY_BROKER_URL) and name the broker in BAOZI_BROKER_URL."
        )


def connect(
    name: str,
    timeout: float = CONNECT_TIMEOUT,
    url: str | None = None,
    heartbeat: int = 0,
    first_node: int = 0,
) -> Connection:
    """Open a connection that the broker's own pages show as ``name``, within ``timeout`` seconds.

    The caller settles the fate of what it publishes itself (:mod:`baozi.amqp.confirms`), so that kombu's own
    confirms, which have no deadline, stay off.

    Args:
        name: who opens it.
        timeout: seconds that this may take in all; one second if less.
        url: where to; default: the broker of the settings.
        heartbeat: seconds within which each side sends at least one; 0 for none.
        turn: where in a cluster's list of nodes to begin, counted round and round.

    Raises:
        BrokerAway: nobody answers in time.
        BrokerRefused: the user or the password is wrong.
        NoVirtualHost: the virtual host is not there, or not this user's.
        NoBroker: no broker is known.
        UsageError: one of Celery's own variables names another broker.
    """
    timeout = max(_SHORTEST_TIMEOUT, timeout)
    options = {
        "client_properties": {"connection_name": f"baozi {name}"},
        "read_timeout": CONNECT_TIMEOUT,
        "write_timeout": CONNECT_TIMEOUT,
        "frame_handler": frame_handler,
    }
    connection = Connection(
        _rotated(first_node, url or broker_url()),
        connect_timeout=min(timeout, CONNECT_TIMEOUT),
        heartbeat=heartbeat,
        transport_options=options,
    )
    # Each node of a cluster is tried once, without a pause.
    others = len(connection.alt or [None]) - 1
    with connect_errors(connection.as_uri()):
        opened: Any = connection.ensure_connection(
            max_retries=others, interval_start=0, timeout=ceil(timeout)
        )
    if opened.transport.driver_type == "amqp":
        # py-amqp has no other limit for a frame whose rest does not come: it would wait for that for ever.
        opened.connection.transport.sock.settimeout(CONNECT_TIMEOUT)
    return cast(Connection, opened)


@contextmanager
def limit_waits(connection: Any, seconds: float) -> Iterator[None]:
    """Limit each wait for the broker on an open ``connection`` while the block runs.

    Celery opens its connections without a limit: it would wait for ever for a broker that accepts one and
    then says nothing more.

    Args:
        connection: kombu's, open; on one without a socket (``memory://``) this does nothing.
        seconds: how long one read or write may wait. A wait that is longer raises TimeoutError, an OSError.
    """
    if connection.transport.driver_type != "amqp":
        yield
        return
    amqp = connection.connection
    before = amqp.transport.sock.gettimeout()
    amqp.transport.sock.settimeout(seconds)
    try:
        yield
    finally:
        # A connection that was lost or closed meanwhile has no socket any more.
        if (sock := getattr(amqp._transport, "sock", None)) is not None:
            sock.settimeout(before)


def close_inherited_socket(connection: Any) -> None:
    """In a forked child: close its copy of the connection's socket, and say nothing to the broker.

    The connection itself is the parent's, which goes on with it.

    Args:
        connection: kombu's, open or not.
    """
    amqp = connection._connection
    sock = getattr(getattr(amqp, "_transport", None), "sock", None)
    if sock is not None and (descriptor := sock.detach()) >= 0:
        os.close(descriptor)


def _rotated(first_node: int, url: str) -> str:
    nodes = url.split(";")
    first = first_node % len(nodes)
    return ";".join(nodes[first:] + nodes[:first])


@contextmanager
def connect_errors(uri: str) -> Iterator[None]:
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
def broker_errors() -> Iterator[None]:
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
