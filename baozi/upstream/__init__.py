"""All changes to the behaviour of Celery, kombu and billiard: one file for each change.

Each file says what it changes and why. Its last lines say where this is discussed upstream, with which
versions it was checked, and ``tests/unit/test_upstream.py`` has a test for it that fails when the library
behaves otherwise: then the change is to be made anew, or to be removed. What is read of py-amqp's
connections in another way, for every user of ``baozi.amqp``, is in ``baozi/amqp/reading.py``, which follows
the same rule.
"""

from collections.abc import Iterable
from types import ModuleType

from baozi.errors import UpstreamChanged


def replace(module: ModuleType, name: str, value: object) -> None:
    """Put ``value`` in the place of what ``module`` has under ``name``.

    Raises:
        UpstreamChanged: it has nothing of that name.
    """
    if name not in vars(module):
        raise UpstreamChanged(_GONE.format(f"{module.__name__}.{name}"))
    setattr(module, name, value)


def with_step(steps: Iterable[str], old: str, new: str) -> list[str]:
    """Return the names of a blueprint's ``steps`` with ``new`` in the place of ``old``.

    Raises:
        UpstreamChanged: ``old`` is not one of them.
    """
    names = list(steps)
    if old not in names:
        raise UpstreamChanged(_GONE.format(f"step {old}"))
    return [new if step == old else step for step in names]


_GONE = "The installed Celery has no {}, which this release replaces. Install the versions that it requires."
