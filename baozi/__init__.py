"""Reliable Celery tasks on RabbitMQ: confirmed publishing, one execution for each key, and an audit.

An app begins with ``from baozi import Reliable``. The names exported here are the public API. All other
modules are internal.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from baozi.arguments import Key as Key
    from baozi.errors import BaoziError as BaoziError
    from baozi.errors import DeadLetter as DeadLetter
    from baozi.order import Order as Order
    from baozi.reliable import Reliable as Reliable
    from baozi.retry import Retry as Retry
    from baozi.task import ReliableTask as ReliableTask
    from baozi.transaction import Transaction as Transaction

#: The exported names and their modules. They are imported at their first use, because not every program that
#: imports this package needs Celery.
_EXPORTED = {
    "BaoziError": "baozi.errors",
    "DeadLetter": "baozi.errors",
    "Key": "baozi.arguments",
    "Order": "baozi.order",
    "Reliable": "baozi.reliable",
    "ReliableTask": "baozi.task",
    "Retry": "baozi.retry",
    "Transaction": "baozi.transaction",
}

__all__ = sorted(_EXPORTED)  # noqa: PLE0605  # a literal list would say each name twice


def __getattr__(name: str) -> Any:
    """Import an exported name at its first use. ``__version__`` is the version of the installed release."""
    if name == "__version__":
        # Imported here, because this import takes longer than the rest of this module.
        return import_module("importlib.metadata").version("baozi")
    if name not in _EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTED[name]), name)
