"""The command ``baozi produce``: reads the options, opens an order, and shows the progress and the result."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from baozi.errors import BaoziError, ExitCode
from baozi.language import Sentence, translated
from baozi.lines import best_effort, say
from baozi.model import LONGEST_TRAY, Baozi, checked_name
from baozi.progress import Progress
from baozi.settings import settings
from baozi.shown import shown, to_json
from baozi.stop import StopTimeout, cancel_stop_timeout, stop_on_signals
from producers.producer import produce as make_and_put
from tasks.app import reliable

#: Seconds between two lines about the progress, if there is no terminal for a progress bar.
_SAY_EVERY = 1.0


def new_run() -> str:
    """Return a name for a new run: the UTC time with a random suffix."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def produce(
    name: Annotated[str, typer.Option(help="The producer's name.")] = "alex",
    count: Annotated[int, typer.Option(min=0, help="Baozi in the whole order; 0 is endless.")] = 10,
    interval: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds between two.")] = 0,
    run: Annotated[str | None, typer.Option(help="The run's name; default: a new one.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on after the run's last accepted number.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="Seconds a put may take; default 30.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Baozi sent ahead of their confirms; default 1000."),
    ] = None,
    stop_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=86_400, help="Seconds after Ctrl-C to confirm and close the order; default 10."
        ),
    ] = None,
    tray: Annotated[
        int, typer.Option(min=1, max=LONGEST_TRAY, help="Baozi in one message; useful if each is small.")
    ] = 1,
    lines: Annotated[bool, typer.Option(help="Print the course's line for each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put baozi on the queue, each confirmed by the broker."""
    if resume and run is None:
        raise typer.BadParameter("--resume needs the --run to go on with")
    run, name = checked_name(run or new_run(), "run", resume), checked_name(name, "producer", resume)
    waits_for = Sentence("waiting for the broker to confirm what is in hand, then closing the order")
    end = settings().stop_timeout if stop_timeout is None else stop_timeout
    stop = stop_on_signals(end, waits_for)
    order = reliable.order(
        name, run=run, resume=resume, window=window, timeout=timeout, stop_timeout=end, stop=stop
    )
    try:
        with order, _showing(order.progress, count, lines, as_json) as order.on_accepted:
            make_and_put(order, count, interval, tray)
        cancel_stop_timeout()
    except BaoziError:
        cancel_stop_timeout()
        if order.progress.session or order.progress.attempted:
            _say_result(order.progress, as_json, closed=False)
        raise
    except KeyboardInterrupt as why:
        cancel_stop_timeout()
        _say_result(order.progress, as_json, closed=False)
        print(_why_interrupted(why, end), file=sys.stderr)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _say_result(order.progress, as_json, closed=True)
    if count and order.progress.accepted < count:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _why_interrupted(end: KeyboardInterrupt, stop_timeout: float) -> str:
    if not isinstance(end, StopTimeout):
        return translated("Interrupted: the order is left open. Go on with --resume.")
    return translated(
        "The broker did not confirm what is in hand within {seconds:g} s of the stop (BAOZI_STOP_TIMEOUT):"
        " the order is left open. Go on with --resume.",
        seconds=stop_timeout,
    )


@contextmanager
def _showing(progress: Progress, count: int, lines: bool, as_json: bool) -> Iterator[Callable[[Baozi], None]]:
    if lines:
        yield lambda baozi: say(baozi.made_line)
    elif as_json:
        yield lambda _: None
    elif sys.stderr is not None and sys.stderr.isatty():
        # A name is data: it has no markup, and no emoji.
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=Console(file=best_effort(sys.stderr))) as bar:
            task = bar.add_task(shown(progress.producer), total=count or None, completed=progress.accepted)
            yield lambda _: bar.update(task, completed=progress.accepted)
    else:
        yield _a_line_now_and_then(progress, count)


def _a_line_now_and_then(progress: Progress, count: int) -> Callable[[Baozi], None]:
    last = time.monotonic()

    def show(_: Baozi) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAY_EVERY:
            last = time.monotonic()
            so_far = Sentence("{accepted} of {count}", accepted=progress.accepted, count=count)
            accepted = so_far if count else progress.accepted
            name = shown(progress.producer)
            say(translated("{producer}: {accepted} accepted", producer=name, accepted=accepted), sys.stderr)

    return show


def _say_result(progress: Progress, as_json: bool, closed: bool) -> None:
    result = {
        "run": progress.run,
        "producer": progress.producer,
        "accepted": progress.accepted,
        "unknown": progress.attempted - progress.accepted,
        "closed": closed,
    }
    if as_json:
        say(to_json(result))
        return
    open_order, closed_order = Sentence("order left open: go on with --resume"), Sentence("order closed")
    unknown = Sentence(", {count} unknown", count=result["unknown"]) if result["unknown"] else ""
    say(
        translated(
            "{producer}: {accepted} accepted{unknown} in run {run}, {state}",
            producer=shown(progress.producer),
            accepted=progress.accepted,
            unknown=unknown,
            run=shown(progress.run),
            state=closed_order if closed else open_order,
        )
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(produce)
