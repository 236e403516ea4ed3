"""The command ``baozi watch``. It imports the server when it runs."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from baozi.errors import ExitCode, PageNotInstalled
from baozi.language import translated
from baozi.settings import settings
from baozi.shown import to_json

#: Seconds until each source must have answered, with --json.
_TIMEOUT = 15
#: The page.
PAGE = Path(__file__).with_name("watch.html")


def watch(
    host: Annotated[
        str, typer.Option(help="Address to listen on. All except loopback need BAOZI_WATCH_PASSWORD.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for a free one.")] = 5556,
    app: Annotated[
        str | None,
        typer.Option("--app", "-A", help="The Celery app that the doctor examines, as `celery -A` finds it."),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show only: no dead letter can be replayed.")
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in this machine's browser.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the page shows once, as JSON.")] = False,
) -> None:
    """Serve a page that shows queues, workers, latency, dead letters and runs, until Ctrl-C.

    The page is for those who know its address, which has a random token. While nobody looks at it, nothing is
    queried. Exit codes: 2 if the port is in use; with --json that of the first source with a problem.
    """
    from baozi.watch.feed import Feed  # noqa: PLC0415  # the help does not need it
    from baozi.watch.sources import Sources  # noqa: PLC0415  # loads Celery

    sources = Sources(app)
    feed = Feed(sources.all())
    if as_json:
        states = feed.snapshot(_TIMEOUT)
        code = next((one.exit_code for one in states.values() if one.exit_code), ExitCode.OK)
        told = {name: one.model_dump(mode="json") for name, one in states.items()}
        print(to_json(told | {"exit_code": int(code)}))
        raise typer.Exit(code)
    try:
        from baozi.watch.site import USER, Site  # noqa: PLC0415  # loads Starlette and uvicorn
    except ModuleNotFoundError as error:
        raise PageNotInstalled from error
    from baozi.watch.browser import opened  # noqa: PLC0415  # the help does not need it

    def replay(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return sources.replay(wanted)
        finally:
            feed.read_again("dead_letters")

    def again(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"known": feed.read_again(str(wanted.get("name")))}

    password = settings().watch_password
    site = Site(
        PAGE.read_text(encoding="utf-8"),
        feed,
        {"replay": replay, "again": again},
        host,
        port,
        password.get_secret_value() if password else None,
        read_only,
    )
    print(translated("The page is at {url} (Ctrl-C ends it).", url=site.url), flush=True)
    if password:
        print(translated("User: {user}. Password: that of BAOZI_WATCH_PASSWORD.", user=USER), flush=True)
    with opened(site.url) if open_browser else nullcontext():
        site.serve()
