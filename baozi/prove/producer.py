"""``python -m baozi.prove.producer FILE`` calls a task through the user's own app, and records each call.

It writes down a call before it makes it and when it has returned. A call that returned without an error is
*accepted*: this is what ``apply_async`` promises to the app, whatever that is worth with the app's settings.
"""

import json
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from baozi.doctor.application import load, masked
from baozi.errors import BaoziError
from baozi.prove import tasks
from baozi.prove.advice import use_broker, write_over
from baozi.prove.plugin import Change, Configuration
from baozi.prove.recorder import EventFile


@dataclass(frozen=True)
class Calls:
    """Which calls a producer makes."""

    app: str
    task: str
    arguments: list[Any]
    """Of each call: a list of positional arguments, or a dictionary of named ones. Used in turn."""
    first: int
    """The number of the first call, and the number after the last."""
    last: int
    pause: float
    """Seconds between two calls."""
    options: Mapping[str, Any]
    """Options of ``apply_async``."""
    plugin: str
    """The file of the plugin's configuration."""

    def write(self, path: Path) -> None:
        """Write it to ``path``."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what is in ``path``."""
        return cls(**json.loads(path.read_text()))


def positional_and_named(arguments: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of one call as ``apply_async`` takes them."""
    return ([], arguments) if isinstance(arguments, dict) else (arguments, {})


def prepared(name: str, broker_url: str, change: Change) -> Any:
    """Return the user's app, on our broker and with the changes.

    Raises:
        AppNotFound: it cannot be imported.
        BaoziError: it would use another broker.
    """
    app: Any = load(name)
    other = use_broker(app, broker_url)
    if other is not None:
        raise BaoziError("The app would use the broker {other}.", other=masked(other))
    tasks.add_to(app)
    write_over(app, change)
    return app


def main(path: Path) -> None:
    """Make the calls that the file ``path`` describes."""
    calls = Calls.read(path)
    configuration = Configuration.read(Path(calls.plugin))
    events = EventFile(Path(configuration.records))
    app = prepared(calls.app, configuration.broker_url, configuration.change)
    task = app.tasks[calls.task]
    events.write("producing")
    due = time.monotonic()
    for number in range(calls.first, calls.last):
        args, kwargs = positional_and_named(calls.arguments[number % len(calls.arguments)])
        # A new id each time: an app may remember what it has seen under an id.
        task_id = str(uuid.uuid4())
        events.write("attempted", task_id, number=number)
        try:
            task.apply_async(args, kwargs, task_id=task_id, **calls.options)
        except Exception as error:
            events.write("refused", task_id, error=type(error).__name__, why=masked(error)[:200])
        else:
            events.write("accepted", task_id)
        due = max(due + calls.pause, time.monotonic())
        time.sleep(max(0, due - time.monotonic()))
    events.write("produced")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
