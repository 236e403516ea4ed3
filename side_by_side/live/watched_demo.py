"""Serves the stage's page, and performs what it requests until Ctrl-C."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from baozi.errors import PageNotInstalled
from baozi.watch.browser import opened
from baozi.watch.feed import Feed
from baozi.workload import Workload, checked_workload
from side_by_side.live.stage import Stage

#: Seconds of a round: as long as a reader looks.
_DEADLINE = 86_400
#: The folders with the parts of the page: its own, and those of the lesson.
_FOLDERS = (Path(__file__).parent / "page", Path(__file__).parents[1] / "lesson" / "page")
_PART = re.compile(r"^@@ (\S+)\n", re.MULTILINE)


def perform(pace: float, on_ready: Callable[[str], None], open_browser: bool = True) -> None:
    """Serve the page of a demo in which the reader kills processes.

    Args:
        pace: the course's seconds are multiplied by this.
        on_ready: called with the page's address.
        open_browser: whether to open it in this machine's browser, if there is one.

    Raises:
        PageNotInstalled: Starlette or uvicorn is not installed.
        NoBroker, BrokerError: there is no RabbitMQ, or it does not start.
        KeyboardInterrupt: at Ctrl-C.
    """
    try:
        from baozi.watch.site import Site  # noqa: PLC0415  # loads Starlette and uvicorn
    except ModuleNotFoundError as error:
        raise PageNotInstalled from error
    work = Workload(run="demo").paced(pace)
    with Stage(checked_workload(**work.model_dump() | {"deadline": _DEADLINE})) as stage:
        site = Site(page(), Feed(stage.sources()), stage.actions())
        site.start()
        try:
            on_ready(site.url)
            with opened(site.url) if open_browser else nullcontext():
                stage.perform()
        finally:
            site.stop()


def page() -> str:
    """Return the page, made from its parts."""
    return _PART.sub(lambda part: _read(part[1]), _read("live.html"))


def _read(part: str) -> str:
    return next(path for folder in _FOLDERS if (path := folder / part).exists()).read_text(encoding="utf-8")
