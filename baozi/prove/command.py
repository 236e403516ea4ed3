"""``baozi prove`` on the command line. All that it needs is loaded when it runs."""

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baozi.errors import ExitCode, UsageError
from baozi.language import Sentence, translated
from baozi.shown import shown, shown_lines, to_json

if TYPE_CHECKING:
    from baozi.prove.lab_broker import LabBroker
    from baozi.prove.report import ProofReport

#: The command that starts a worker, unless another is given.
_WORKER = "celery -A {app} worker"


def prove(
    app: Annotated[
        str | None,
        typer.Option("--app", "-A", help="The Celery app, as `celery -A` finds it."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Name of the task to call. Default: a small task that is added.")
    ] = None,
    args: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The task's arguments, one call a line, in JSON: a list of positional arguments or an object"
            " of named ones. They are used in turn.",
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option(help="Command that starts a worker. Default: `celery -A APP worker`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=20, help="How many workers to start.")] = 1,
    faults: Annotated[
        str | None,
        typer.Option(
            help="Faults, separated by commas: FAULT, FAULT:eta or FAULT:retry. `help` lists them."
            " Default: all."
        ),
    ] = None,
    danger: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Instead of an app of yours: show dangers of `baozi doctor` on small apps, such as BZ104, or"
            " several separated by commas, or `all`. `help` lists them.",
        ),
    ] = None,
    times: Annotated[
        int | None, typer.Option(min=1, help="How often each fault or danger is tried. Default: once.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, help="Try the faults again and again, and begin none after this time."),
    ] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, help="Calls of each try. Default: enough for some seconds.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same fault plan.")] = None,
    on: Annotated[
        str | None,
        typer.Option(help="The broker to start: private or container. Default: what is available."),
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="URL of a broker to use instead, with an administrator's login.")
    ] = None,
    management: Annotated[
        str | None, typer.Option(help="URL of that broker's management API. Default: port 15672 of its host.")
    ] = None,
    i_own_this_broker: Annotated[
        bool,
        typer.Option(
            "--i-own-this-broker",
            help="Use --broker, in virtual hosts that are created for it. Faults of the broker are left out.",
        ),
    ] = False,
    effect_sql: Annotated[
        str | None, typer.Option(help="A SELECT that returns the number of the task's effects, as count(*).")
    ] = None,
    effect_db: Annotated[
        str | None, typer.Option(help="URL of the database for --effect-sql, as SQLAlchemy takes it.")
    ] = None,
    with_fixes: Annotated[
        bool, typer.Option("--with-fixes", help="Then repeat the plan with the doctor's advice applied.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --task is called for real.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write results.json, report.html and logs to this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run a Celery app on a separate broker, inject faults, and count what is lost or done twice.

    Exit codes: 1 something is lost; 6 nothing is lost, but work stops; with --danger, 7 a danger was not seen
    or its fix does not hold; 0 otherwise.
    """
    from baozi.prove.judging import Judgement  # noqa: PLC0415  # only this command needs it

    if faults == "help":
        _list_faults()
        return
    if danger is not None:
        if app or broker or i_own_this_broker:
            raise UsageError("--danger starts its own apps and broker. Leave out -A and --broker.")
        _show_dangers(danger, times or 1, on, out, as_json)
        return
    if app is None:
        raise UsageError("No app is named. Name it with -A, as `celery -A` finds it.")
    wanted = _Wanted(
        app=app,
        command=worker or _WORKER.format(app=app),
        task=task,
        arguments=_arguments(args, task),
        workers=workers,
        faults=faults.split(",") if faults else None,
        times=times,
        seconds=seconds,
        calls=calls,
        seed=random.randrange(2**32) if seed is None else seed,
        with_fixes=with_fixes,
    )
    if (effect_sql is None) != (effect_db is None):
        raise UsageError("--effect-sql and --effect-db need each other.")
    _check_kind(on)
    with ExitStack() as stack:
        folder = _folder(out, stack)
        _ask_before(wanted, yes)
        count = stack.enter_context(_counting(effect_sql, effect_db)) if effect_sql and effect_db else None
        chosen = stack.enter_context(_broker(on, broker, management, i_own_this_broker))
        report = _report(wanted, chosen, folder, count)
    _write(report, out)
    _print(report, as_json, out)
    verdict = report.as_it_is.judgement
    if verdict is Judgement.LOSES:
        raise typer.Exit(ExitCode.LOSS)
    if verdict is Judgement.STOPS:
        raise typer.Exit(ExitCode.UNHEALTHY)


@dataclass(frozen=True)
class _Wanted:
    app: str
    command: str
    task: str | None
    arguments: list[Any]
    workers: int
    faults: list[str] | None
    times: int | None
    seconds: float | None
    calls: int | None
    seed: int
    with_fixes: bool


def _report(
    wanted: _Wanted, broker: "LabBroker", folder: Path, count: Callable[[], int] | None
) -> "ProofReport":
    from baozi.prove import plan, proof  # noqa: PLC0415  # only this command needs them
    from baozi.prove.faults import FAULTS  # noqa: PLC0415  # the same
    from baozi.prove.lab import Lab  # noqa: PLC0415  # the same
    from baozi.prove.report import ProofReport  # noqa: PLC0415  # the same
    from baozi.prove.survey import Question, survey  # noqa: PLC0415  # the same

    names = [
        it
        for it in wanted.faults or plan.DEFAULT
        if broker.node is not None or not FAULTS.get(it.partition(":")[0], FAULTS["cut"]).breaks_broker
    ]
    plan.parsed(names)
    if not names:
        raise UsageError("These faults break the broker itself, which is not done to a broker of yours.")
    answer = survey(Question(wanted.app, wanted.task, wanted.arguments, broker.version))
    if answer.backend and not answer.backend.startswith(("disabled", "rpc")):
        _say(
            translated(
                "The workers store results in {backend}, the app's own result backend.",
                backend=answer.backend,
            )
        )

    def run(name: str, **more: Any) -> proof.Proof:
        lab = Lab(
            broker=broker,
            folder=folder / name,
            app=wanted.app,
            command=wanted.command,
            task=wanted.task,
            arguments=wanted.arguments,
            workers=wanted.workers,
            calls=wanted.calls,
            **more,
        )
        steps = plan.steps(names, wanted.seed)
        limited = proof.limited(steps, len(names), wanted.times, wanted.seconds)
        return proof.prove(lab, limited, _say, count)

    as_it_is = run("as-it-is", findings=list(answer.findings))
    fixed = None
    if wanted.with_fixes:
        _say(translated("The same with the doctor's advice:"))
        fixed = run("with-fixes", findings=answer.left, change=answer.change)
    options = answer.change.settings.get("broker_transport_options", {})
    return ProofReport(
        app=wanted.app,
        task=wanted.task or "baozi.prove.work, which is added",
        command=wanted.command,
        rabbitmq=broker.version or "of unknown version",
        seed=wanted.seed,
        confirms=answer.confirms,
        as_it_is=as_it_is,
        findings=answer.findings,
        fixed=fixed,
        fixed_confirms=answer.confirms or bool(options.get("confirm_publish")),
        changed={**answer.change.settings, **answer.change.queue_arguments, **answer.change.environment}
        if fixed
        else {},
        by_hand=answer.by_hand if fixed else (),
    )


def _arguments(path: Path | None, task: str | None) -> list[Any]:
    if path is None:
        return [[]]
    if task is None:
        raise UsageError("--args are the arguments of --task. Name the task.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("The arguments in {path} cannot be read: {error}.", path=path, error=error) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise UsageError(
                "Line {number} of {path} is not JSON: {error}.", number=number, path=path, error=error
            ) from None
        if not isinstance(value, list | dict):
            raise UsageError(
                "Line {number} of {path} is neither a list nor an object.", number=number, path=path
            )
        found.append(value)
    if not found:
        raise UsageError("There are no arguments in {path}. Write one call a line.", path=path)
    return found


def _ask_before(wanted: _Wanted, yes: bool) -> None:
    """Warn that the task is executed for real.

    Raises:
        UsageError: the user has not agreed, and cannot be asked.
    """
    if wanted.task is None or yes:
        return
    warning = Sentence(
        "{task} is executed for real, hundreds of times, and some calls more than once. All that it contacts"
        " is contacted: databases, mail servers, payment services.",
        task=wanted.task,
    )
    if not sys.stdin.isatty():
        raise UsageError("{warning} Add --yes if that does no harm.", warning=warning)
    typer.echo(translated(warning), err=True)
    typer.confirm(translated("Does that do no harm?"), abort=True, err=True)


@contextmanager
def _broker(kind: str | None, url: str | None, management: str | None, owned: bool) -> "Iterator[LabBroker]":
    from baozi.broker.readiness import check_broker_answers  # noqa: PLC0415  # only this command needs it
    from baozi.broker_url import nodes, safe_url  # noqa: PLC0415  # the same
    from baozi.prove.lab_broker import LabBroker, own_broker  # noqa: PLC0415  # the same

    if url is None:
        if owned or management:
            raise UsageError("No broker is named. Name it with --broker, or let one be started.")
        _say(translated("Starting a broker that nothing else uses."))
        with own_broker(kind) as broker:
            yield broker
        return
    if not owned:
        raise UsageError(
            "The broker at {url} may have other users, and `baozi prove` breaks connections"
            " and workers. If it is yours alone, say --i-own-this-broker; or leave --broker"
            " out to start another.",
            url=safe_url(url),
        )
    try:
        node = nodes(url)[0]
    except ValueError as error:
        raise UsageError("The broker's URL cannot be used: {error}.", error=error) from None
    version = check_broker_answers(url, 5)
    yield LabBroker(url, management or f"http://{node.host}:15672", version)


@contextmanager
def _counting(sql: str, url: str) -> Iterator[Callable[[], int]]:
    """Yield a function that runs the user's SELECT."""
    from sqlalchemy import create_engine, text  # noqa: PLC0415  # only this option needs it
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError  # noqa: PLC0415  # the same
    from sqlalchemy.pool import NullPool  # noqa: PLC0415  # the same

    try:
        engine = create_engine(url, poolclass=NullPool)
    except (ArgumentError, ImportError) as error:
        raise UsageError("The URL of --effect-db cannot be used: {error}.", error=error) from None

    def count() -> int:
        try:
            with engine.connect() as connection:
                return int(connection.execute(text(sql)).scalar_one())
        except (SQLAlchemyError, TypeError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise UsageError("The rows of --effect-sql cannot be counted: {said}.", said=said) from None

    count()  # an error is better now than after the first trial
    yield count


def _folder(out: Path | None, stack: ExitStack) -> Path:
    """Return the folder of the trials: in DIR, or a temporary one."""
    if out is None:
        return Path(stack.enter_context(TemporaryDirectory(prefix="baozi-prove-")))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError("The folder {out} is not empty. Name another for the results.", out=out)
    except OSError as error:
        raise UsageError("The folder {out} cannot be used: {why}.", out=out, why=error.strerror) from None
    return out.absolute()


def _write(report: "ProofReport", out: Path | None) -> None:
    from baozi.prove.report import dumped, page  # noqa: PLC0415  # only this command needs it

    if out is not None:
        (out / "results.json").write_text(dumped(report), encoding="utf-8")
        (out / "report.html").write_text(page(report), encoding="utf-8")


def _print(report: "ProofReport", as_json: bool, out: Path | None) -> None:
    from baozi.prove import report as reports  # noqa: PLC0415  # only this command needs it

    if as_json:
        print(to_json(reports.as_json(report)))
        return
    for title, proof in (("", report.as_it_is), (Sentence("With the advised settings"), report.fixed)):
        if proof is None:
            continue
        if title:
            print(translated(title))
        reports.table(proof).print()
        for line in reports.remarks(proof):
            print(shown(translated(line)))
    print()
    for line in reports.explanations(report):
        print(shown(translated(line)))
    print(shown(translated(report.accepted_means)))
    print(shown(translated(reports.conclusion(report.as_it_is.results))))
    print(translated("Seed {seed} repeats this plan.", seed=report.seed))
    if out is not None:
        print(translated("The report is {path}.", path=shown(out / "report.html")))


def _check_kind(on: str | None) -> None:
    if on not in {None, "private", "container"}:
        raise UsageError("There is no broker {on!r}. There are private and container.", on=on)


def _show_dangers(names: str, times: int, on: str | None, out: Path | None, as_json: bool) -> None:
    from baozi.prove.dangers import command, report  # noqa: PLC0415  # only this option needs them
    from baozi.prove.dangers.catalogue import chosen  # noqa: PLC0415  # the same

    if names == "help":
        for line in report.listed():
            print(line)
        return
    _check_kind(on)
    chosen(names.split(","))  # an error is better now than after the folder is made
    with ExitStack() as stack:
        command.run(names, times, on, _folder(out, stack), out, as_json)


def _list_faults() -> None:
    from baozi.prove.faults import FAULTS  # noqa: PLC0415  # only this option needs them

    for name, fault in FAULTS.items():
        print(f"{name:16} {translated(fault.does)}")


def _say(line: str) -> None:
    print(shown_lines(line), file=sys.stderr, flush=True)
