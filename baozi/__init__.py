"""The guarantee for Celery tasks on RabbitMQ: confirmed, executed once a key, audited.

``from baozi import Reliable`` is where an app begins. What else is meant for an app is exported here; all
other modules are the project's own.
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

#: What is exported, and from where. Loaded when it is asked for: a tool of the project does without Celery.
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
    """Load an exported name when it is first asked for; ``__version__`` is the installed release's."""
    if name == "__version__":
        # Loaded here: it takes longer than all the rest of this module.
        return import_module("importlib.metadata").version("baozi")
    if name not in _EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTED[name]), name)
