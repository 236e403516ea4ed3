"""Flower's configuration (`celery -A tasks flower --conf=tasks/flowerconfig.py`).

The column of the arguments shows a baozi's id, ``run/producer/number``, because the arguments are wider than
it. The broker's page also lists the queue of the dead letters, from which no worker consumes.
"""

import ast
from typing import Any

from flower.views import BaseHandler

from baozi.errors import NotABaozi
from baozi.model import Baozi, Tray
from tasks.app import reliable

#: Flower's own list: the queues from which the workers consume.
_consumed = BaseHandler.get_active_queue_names


def format_task(task: Any) -> Any:
    """Return Flower's copy of a task for its pages, with the ids of its baozi as its arguments."""
    try:
        (item,) = ast.literal_eval(task.args)
        baozi = Tray.parse(item, old=True).baozi if "numbers" in item else [Baozi.parse(item, old=True)]
    except (ValueError, SyntaxError, TypeError, NotABaozi):
        return task  # not a baozi, or cut off by Celery
    first, last = baozi[0], baozi[-1]
    task.args = first.id if first is last else f"{first.id} to {last.number}"
    return task


def _names(handler: BaseHandler) -> list[str]:
    """Return the names of the queues on the broker's page."""
    return sorted({*_consumed(handler), reliable.topology.dead})


BaseHandler.get_active_queue_names = _names
