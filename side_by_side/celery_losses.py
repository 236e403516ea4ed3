"""``python -m side_by_side.celery_losses``: records what stock Celery loses, and writes a page about it.

It runs ``baozi prove`` on each small app of ``examples/what_celery_loses``. The page is made from the results
file alone, so that no number is typed by hand.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from baozi import command_line, quantities
from baozi.errors import BaoziError, ExitCode, UsageError
from baozi.prove.faults import FAULTS
from baozi.tables import Table
from side_by_side.results import Machine, ResultModel, this_machine

_ROOT = Path(__file__).parents[1]
#: The apps; the page; the results from which it is made.
APPS = _ROOT / "examples" / "what_celery_loses"
PAGE = _ROOT / "docs" / "what-celery-loses.md"
RESULTS = _ROOT / "docs" / "what-celery-loses.json"
#: Each app, in the order of the page. Each has the settings of the one before, and more.
TITLES = {
    "default_settings": "Default settings, classic queue",
    "late_acknowledgement": "Late acknowledgement only",
    "both_settings": "Late acknowledgement and reject on worker lost",
    "quorum_queue": "The same on a quorum queue",
    "confirms": "The same with publisher confirms",
}
#: The plan of each app. So many calls last longer than it takes until a fault is injected.
_FAULTS = ("kill-pool-child", "kill-worker", "kill-worker:eta", "kill-broker", "cut", "blackhole")
_CALLS, _SEED = 150, 1
#: What ``baozi prove`` exits with if it has results.
_HAS_RESULTS = (ExitCode.OK, ExitCode.LOSS, ExitCode.UNHEALTHY)


class RecordedLosses(ResultModel):
    """What ``baozi prove`` found in each app."""

    machine: Machine
    options: list[str]
    """The options of each command, in addition to the app."""
    apps: dict[str, dict[str, Any]]
    """What ``baozi prove --json`` printed, by the app's name."""


def record(names: Iterable[str], times: int, on: str) -> RecordedLosses:
    """Run ``baozi prove`` on each app, one after the other.

    Args:
        names: of the apps.
        times: how often each fault is tried.
        on: the broker to start.

    Raises:
        BaoziError: a command has no results.
    """
    options = ["--on", on, "--faults", ",".join(_FAULTS), "--times", str(times)]
    options += ["--calls", str(_CALLS), "--seed", str(_SEED)]
    apps = {app: _proven(app, options) for app in names}
    (rabbitmq,) = {found["rabbitmq"] for found in apps.values()}
    machine = this_machine(rabbitmq)
    return RecordedLosses(machine=machine, options=options, apps=apps)


def recorded_losses() -> RecordedLosses:
    """Return what was recorded last."""
    return RecordedLosses.model_validate_json(RESULTS.read_text(encoding="utf-8"))


def _with_those_before(recorded: RecordedLosses) -> RecordedLosses:
    """Return the results with those that were recorded before in the same way.

    Raises:
        UsageError: the others were recorded in another way, so that they cannot be compared.
    """
    if not RESULTS.exists():
        return recorded
    before = recorded_losses()
    if (before.machine, before.options) != (recorded.machine, recorded.options):
        raise UsageError("The other apps were recorded with other versions or options. Record all apps.")
    apps = before.apps | recorded.apps
    return recorded.model_copy(update={"apps": {name: apps[name] for name in TITLES if name in apps}})


def _proven(app: str, options: Iterable[str]) -> dict[str, Any]:
    print(TITLES[app], file=sys.stderr, flush=True)
    with TemporaryDirectory(prefix="baozi-losses-") as folder:
        out = Path(folder) / "proof"
        command = [sys.executable, "-m", "baozi", "prove", "-A", app, *options, "--out", str(out)]
        done = subprocess.run(command, cwd=APPS, stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in _HAS_RESULTS:
            raise BaoziError("`baozi prove -A {app}` ended with {code}.", app=app, code=done.returncode)
        found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found


def page(recorded: RecordedLosses) -> str:
    """Return the page of these results."""
    parts = [
        "# What stock Celery loses",
        "This page is made by `make losses` from [its results](what-celery-loses.json). The command runs"
        " [`baozi prove`](prove.md), which explains the words, on five small apps of"
        " [examples/what_celery_loses](../examples/what_celery_loses). Each has the settings of the one"
        " before it, and more. The task is added by `baozi prove` and takes 0.1 s.",
        _conditions(recorded),
        f"```sh\ncd examples/what_celery_loses\nbaozi prove -A default_settings"
        f" {' '.join(recorded.options)}\n```",
        "## All apps",
        "Each cell has the worst verdict of all tries, the calls that were lost, and the calls that were"
        " executed twice, of all accepted calls.",
        _overview(recorded),
        "\n".join(f"- `{name}`: {FAULTS[name].does}" for name in _faults_of(recorded)),
        "`kill-worker:eta` calls the task with a countdown. A repetition is no error of Celery: a message"
        " that is acknowledged late is delivered at least once.",
        *(_section(recorded, app) for app in recorded.apps),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(recorded: RecordedLosses) -> str:
    machine = recorded.machine
    versions = machine.versions
    return (
        f"Recorded with Celery {versions['celery']}, kombu {versions['kombu']}, py-amqp {versions['amqp']},"
        f" RabbitMQ {versions['rabbitmq']} (one node), Python {machine.python};"
        f" {machine.processor}, {machine.cores} cores, {quantities.memory(machine.memory)}, {machine.system}."
        " A fault hits at a random moment, so a fault that lost nothing here may lose something in another"
        " try."
    )


def _tries(found: Mapping[str, Any], fault: str) -> list[dict[str, Any]]:
    return [it for it in found["as_it_is"]["tries"] if it["fault"] == fault]


def _names(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(it["fault"] for it in found["as_it_is"]["tries"]))


def _faults_of(recorded: RecordedLosses) -> list[str]:
    names = dict.fromkeys(name.partition(":")[0] for it in recorded.apps.values() for name in _names(it))
    return [name for name in names if name in FAULTS]


def _sum(tries: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(it[name]) for it in tries)


def _verdict(tries: Iterable[Mapping[str, Any]]) -> str:
    words = {str(it["judgement"]) for it in tries}
    return next((word for word in ("loses", "stops", "repeats") if word in words), "sound")


def _overview(recorded: RecordedLosses) -> str:
    table = Table("fault", *(TITLES[app] for app in recorded.apps))
    for fault in dict.fromkeys(name for it in recorded.apps.values() for name in _names(it)):
        table.add_row(fault, *(_cell(_tries(it, fault)) for it in recorded.apps.values()))
    return table.markdown()


def _cell(tries: list[dict[str, Any]]) -> str:
    lost, twice, accepted = (_sum(tries, name) for name in ("lost", "twice", "accepted"))
    counted = [f"{number} {word}" for number, word in ((lost, "lost"), (twice, "twice")) if number]
    return f"{_verdict(tries)}{': ' if counted else ''}{', '.join(counted)} of {accepted:,}"


def _section(recorded: RecordedLosses, app: str) -> str:
    found = recorded.apps[app]
    columns = ("accepted", "refused", "succeeded", "lost", "twice", "waiting", "dead", "redelivered")
    table = Table("fault", "tries", "verdict", *columns, "explained by")
    remarks = []
    for fault in _names(found):
        tries = _tries(found, fault)
        rules = dict.fromkeys(rule for it in tries for rule in it["explained_by"])
        sums = (f"{_sum(tries, name):,}" for name in columns)
        table.add_row(fault, str(len(tries)), _verdict(tries), *sums, ", ".join(rules) or "–")
        places = dict.fromkeys(place for it in tries for place in it["lost_at"])
        remarks += [
            f"- {fault}: {sum(it['lost_at'].get(place, 0) for it in tries)} lost, {place}."
            for place in places
        ]
        remarks += [f"- {fault}: {it}." for it in dict.fromkeys(it["stopped"] for it in tries) if it]
    rules = dict.fromkeys(rule for it in found["as_it_is"]["tries"] for rule in it["explained_by"])
    remarks += [f"- [{rule}](doctor.md): {found['findings'][rule]}" for rule in rules]
    parts = [
        f"## {TITLES[app]}",
        f"[`{app}.py`](../examples/what_celery_loses/{app}.py). {found['accepted_means']}",
        table.markdown(),
        "\n".join(remarks),
    ]
    return "\n\n".join(it for it in parts if it)


def main(
    apps: Annotated[
        list[str] | None, typer.Argument(metavar="[APP]...", help="Record only these, and keep the others.")
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="How often each fault is tried in each app.")] = 3,
    on: Annotated[str, typer.Option(help="The broker to start: private or container.")] = "container",
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Record nothing: make the page from the recorded results.")
    ] = False,
) -> None:
    """Record what stock Celery loses, and write docs/what-celery-loses.md."""
    for name in apps or ():
        if name not in TITLES:
            raise UsageError("There is no app {name!r}. There are {all}.", name=name, all=", ".join(TITLES))
    if not page_only:
        recorded = record(apps or TITLES, times, on)
        if apps:
            recorded = _with_those_before(recorded)
        RESULTS.write_text(recorded.model_dump_json(indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(recorded_losses()), encoding="utf-8")


if __name__ == "__main__":
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command()(main)
    command_line.run(command)
