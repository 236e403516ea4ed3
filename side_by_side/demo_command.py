"""The command ``baozi demo``."""

import sys
from typing import Annotated

import typer

from baozi.audit_command import print_audit
from baozi.errors import ExitCode
from baozi.language import translated
from baozi.lines import say
from baozi.settings import settings
from baozi.shown import to_json
from producers.command import new_run
from side_by_side.demo import demo as run_demo


def demo(
    pace: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Factor on the course's seconds. Default: 0.1, with --watch 1."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Serve a page on which you kill processes of the demo, beside multiprocessing.Queue.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
) -> None:
    """Start three producers, two workers and Flower; audit their work; then stop everything."""
    if watch:
        from side_by_side.live.watched_demo import perform  # noqa: PLC0415  # only --watch needs it

        perform(1 if pace is None else pace, lambda url: _print_address(url, as_json))
        return
    pace = 0.1 if pace is None else pace
    sums, in_memory = run_demo(settings(), new_run(), pace, sys.stderr if as_json else sys.stdout)
    if as_json or not in_memory:
        print_audit(sums, as_json)
    if in_memory:
        total = sums.total
        say(
            translated(
                "run {run}: {eaten} eaten in memory. This shows the model and proves nothing: the broker was"
                " {broker}.",
                run=sums.run,
                eaten=total.eaten,
                broker=in_memory,
            ),
            sys.stderr if as_json else sys.stdout,
        )
    if not sums.proven:
        raise typer.Exit(ExitCode.LOSS)


def _print_address(url: str, as_json: bool) -> None:
    if as_json:
        print(to_json({"url": url}), flush=True)
    else:
        print(translated("The page is at {url} (Ctrl-C ends it).", url=url), flush=True)
