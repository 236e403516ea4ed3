"""A forked process, as gunicorn's with ``preload_app``, begins without its parent's connections.

Two processes that share a socket read each other's answers and use one delivery tag twice. kombu empties
its pools after a fork of ``multiprocessing`` only, and it shuts down the socket, which the parent still
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
    """Have each child of this process begin with empty pools of connections and producers.

    Args:
        app: Celery's, whose ``apply_async`` and ``control`` use the pools.
    """
    os.register_at_fork(after_in_child=lambda: _reset_after_fork(app))


def _reset_after_fork(app: Any) -> None:
    # Another thread of the parent may have held a pool's lock: the child makes new pools, and takes no lock.
    for pool in pools.connections.values():
        for connection in chain(list(pool._dirty), list(pool._resource.queue)):
            if hasattr(connection, "_connection"):  # else it is one that nobody needed yet
                close_inherited_socket(connection)
    pools.connections.clear()
    pools.producers.clear()
    app._after_fork()
    # Not `app.control`, which would read the settings: this process may have no broker, and need none.
    if (control := vars(app).get("control")) is not None:
        control._after_fork()
