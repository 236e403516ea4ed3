"""A forked process, as gunicorn's with ``preload_app``, does not use its parent's connections.

Two processes that share a socket read each other's answers and use one delivery tag twice. kombu empties its
pools only after a fork of ``multiprocessing``, and then it shuts down the socket, which the parent still
uses.

Upstream: celery/kombu#613.
Checked with: celery 5.7.0, kombu 5.7.0, billiard 4.3.2.
"""

import os
from itertools import chain
from typing import Any

from kombu import pools

from baozi.amqp.connection import close_inherited_socket


def drop_connections_after_fork(app: Any) -> None:
    """Let each forked child of this process start with empty pools of connections and producers.

    Args:
        app: the Celery app, whose ``apply_async`` and ``control`` use the pools.
    """
    os.register_at_fork(after_in_child=lambda: _reset_after_fork(app))


def _reset_after_fork(app: Any) -> None:
    # Another thread of the parent may have held a pool's lock. So the child takes no lock and makes new
    # pools.
    for pool in pools.connections.values():
        for connection in chain(list(pool._dirty), list(pool._resource.queue)):
            if hasattr(connection, "_connection"):  # else it was never opened
                close_inherited_socket(connection)
    pools.connections.clear()
    pools.producers.clear()
    app._after_fork()
    # Not `app.control`, which would read the settings: this process may have no broker.
    if (control := vars(app).get("control")) is not None:
        control._after_fork()
