"""Connections to the broker, with a name, timeouts and errors of one sentence."""

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

#: Seconds for one TCP connection and its handshake. On a working network a few milliseconds are enough.
CONNECT_TIMEOUT = 5
#: Seconds for a connection at least, even if the caller's deadline has passed: a healthy broker may need
#: that, and 0 means "do not block" to a socket.
_SHORTEST_TIMEOUT = 1


@cache
def broker_url() -> str:
    """Return the URL of the broker to use. It contains the password: do not log it.

    Raises:
        NoBroker: no broker is known.
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
    """Check that ``other``, a URL that Celery would use instead of ``ours``, is the same broker's.

    Celery's variables override its settings without a message. A worker would consume from one broker, while
    producers, the commands for dead letters and the audit use another.

    Args:
        name: the variable or setting whose value is ``other``.
        other: a broker's URL, possibly invalid.
        ours: the URL of the broker that everything else uses.

    Raises:
        UsageError: it is another broker's.
    """
    try:
        same = nodes(other) == nodes(ours)
    except ValueError:
        same = False
    if not same:
        raise UsageError(
            "{name} names another broker than BAOZI_BROKER_URL or `baozi broker start`. Unset it"
            " (celery's option -b sets CELERY_BROKER_URL) and name the broker in"
            " BAOZI_BROKER_URL.",
            name=name,
        )


def connect(
    name: str,
    timeout: float = CONNECT_TIMEOUT,
    url: str | None = None,
    heartbeat: int = 0,
    first_node: int = 0,
) -> Connection:
    """Open a connection that the broker's management pages show as ``name``.

    kombu's own confirms, which have no deadline, stay off. A caller that publishes uses
    :mod:`baozi.amqp.confirms`.

    Args:
        name: the connection's name.
        timeout: seconds for all attempts together, at least 1.
        url: the broker's URL; default: that of the settings.
        heartbeat: seconds between heartbeats; 0 for none.
        first_node: index, modulo the list's length, of the cluster's node to try first.

    Raises:
        BrokerAway: no node answers in time.
        BrokerRefused: the user or the password is wrong.
        NoVirtualHost: the virtual host does not exist, or this user has no access to it.
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
        # Without this timeout py-amqp would wait without a limit for the rest of a frame.
        opened.connection.transport.sock.settimeout(CONNECT_TIMEOUT)
    return cast(Connection, opened)


@contextmanager
def limit_waits(connection: Any, seconds: float) -> Iterator[None]:
    """Limit each wait for the broker on an open ``connection`` while the block runs.

    Celery's connections have no limit: Celery would wait endlessly for a broker that accepts a connection and
    then does not answer.

    Args:
        connection: kombu's, open; on one without a socket (``memory://``) this does nothing.
        seconds: the limit of one read or write. After it, TimeoutError (an OSError) is raised.
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
        # If the connection was lost or closed in the block, it has no socket.
        if (sock := getattr(amqp._transport, "sock", None)) is not None:
            sock.settimeout(before)


def close_inherited_socket(connection: Any) -> None:
    """In a forked child: close its copy of the connection's socket, and send nothing to the broker.

    The parent continues to use the connection.

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
    """Raise the project's errors for those of connecting to ``uri``, which contains no password."""
    try:
        yield
    except AccessRefused as error:
        raise BrokerRefused(
            "The broker at {uri} refuses the user or the password. Correct BAOZI_BROKER_URL; with docker"
            " compose, .env.",
            uri=uri,
        ) from error
    except NotAllowed as error:
        raise NoVirtualHost(
            "The broker at {uri} has no such virtual host, or the user may not enter it. Correct it in"
            " BAOZI_BROKER_URL.",
            uri=uri,
        ) from error
    except (OSError, OperationalError, AMQPError) as error:
        raise BrokerAway(
            "The broker at {uri} does not answer ({error}); see that it runs and that the address is right.",
            uri=uri,
            error=_reason(error),
        ) from error


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise the project's errors for those of an open connection."""
    try:
        yield
    except AccessRefused as error:
        raise NotPermitted(
            "The broker does not permit this: {reply_text}.", reply_text=error.reply_text
        ) from error
    except NotFound as error:
        raise Unroutable(
            "The broker has no such exchange or queue: {reply_text}.", reply_text=error.reply_text
        ) from error
    except (OSError, OperationalError, AMQPError) as error:
        raise BrokerAway("The connection to the broker was lost ({error}).", error=_reason(error)) from error


def _reason(error: BaseException) -> str:
    text = str(error) or str(error.__cause__ or "") or type(error).__name__
    return text.splitlines()[0].rstrip(".")
