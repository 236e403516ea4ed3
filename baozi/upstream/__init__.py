"""All changes to the behaviour of Celery, kombu and billiard: one file for each change.

Each file says what it changes and why. Its last lines name the upstream discussions and the versions with
which it was checked. ``tests/unit/test_upstream.py`` has a test for each file. It fails when the library's
behaviour changes: then adapt or remove the change. ``baozi/amqp/reading.py``, which changes how py-amqp's
connections are read for every user of ``baozi.amqp``, follows the same rule.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType

from baozi.errors import UpstreamChanged


def replace(module: ModuleType, name: str, value: object) -> None:
    """Replace the attribute ``name`` of ``module`` by ``value``.

    Raises:
        UpstreamChanged: the module has no such attribute.
    """
    if name not in vars(module):
        raise _gone(f"{module.__name__}.{name}")
    setattr(module, name, value)


def with_steps(steps: Iterable[str], replaced: Mapping[str, str]) -> list[str]:
    """Return the names of a blueprint's ``steps``, with those in ``replaced`` replaced by their values.

    Raises:
        UpstreamChanged: one of those in ``replaced`` is not a step.
    """
    names = list(steps)
    for old in replaced:
        if old not in names:
            raise _gone(f"step {old}")
    return [replaced.get(name, name) for name in names]


def _gone(what: str) -> UpstreamChanged:
    return UpstreamChanged(
        "The installed Celery has no {what}, which this release replaces. Install the versions that"
        " it requires.",
        what=what,
    )
