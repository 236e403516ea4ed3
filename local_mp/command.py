"""``baozi local``: the lessons, and the server and the clients of a Manager's queue as commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from baozi.errors import DeadlinePassed, UsageError
from baozi.journal import Journal
from baozi.settings import settings
from baozi.workload import checked_workload
from local_mp import lessons, observed, sentinel_queue
from local_mp.manager_address import ManagerAddress

#: Next to RabbitMQ's own port, and below those that the system gives away by itself.
_ADDRESS = "127.0.0.1:5680"

Pace = Annotated[
    float,
    typer.Option(min=0, max=1000, help="Factor on the course's seconds: 0.1 is ten times as fast."),
]
Address = Annotated[str, typer.Option(help="HOST:PORT of the Manager.", metavar="HOST:PORT")]
AuthkeyFile = Annotated[
    Path | None, typer.Option(help="File that holds the authkey. Default: BAOZI_AUTHKEY.", metavar="FILE")
]
JournalFolder = Annotated[
    Path | None, typer.Option("--journal", help="Folder to keep a journal in.", metavar="DIR")
]


class _Programs(TyperGroup):
    """A group that names what there is when it is asked for what there is not."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer's own click has no public types
        """Find the command that the arguments name."""
        if args[0] not in self.commands:
            raise UsageError(
                "There is no {name!r} here; there are: {commands}.",
                name=args[0],
                commands=", ".join(self.commands),
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Programs, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def local(context: typer.Context) -> None:
    """Run one of the course's places for what processes share, on this machine; without NAME, list them."""
    if context.invoked_subcommand is None:
        for name, title in _TITLES.items():
            typer.echo(f"{name:16}{title}")


_TITLES = {name: lessons.titles(name)[1] for name in lessons.LESSONS}


def _run(name: str, pace: float) -> None:
    try:
        lessons.run(name, pace)
    except TimeoutError:
        raise DeadlinePassed from None


def _command(name: str) -> Callable[[float], None]:
    def command(pace: Pace = 1.0) -> None:
        _run(name, pace)

    return command


for _name, _line in _TITLES.items():
    if _name != "manager-queue":
        app.command(_name, help=_line)(_command(_name))

manager = typer.Typer(cls=_Programs, rich_markup_mode=None)
app.add_typer(manager, name="manager-queue", help=_TITLES["manager-queue"])


@manager.callback(invoke_without_command=True)
def manager_all(context: typer.Context, pace: Pace = 1.0) -> None:
    """Run all parts at once on loopback, with a key made for the occasion; or one part by itself."""
    if context.invoked_subcommand is None:
        _run("manager-queue", pace)


@manager.command()
def serve(
    address: Address = _ADDRESS,
    authkey_file: AuthkeyFile = None,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Items that the queue holds; a further put waits.")
    ] = None,
) -> None:
    """Keep the queue until Ctrl-C."""
    manager = _manager(address, authkey_file)
    manager.serve(capacity, lambda port: typer.echo(f"the Manager is at {manager.host}:{port}"))


@manager.command()
def produce(
    name: str,
    address: Address = _ADDRESS,
    authkey_file: AuthkeyFile = None,
    journal: JournalFolder = None,
    pace: Pace = 1.0,
) -> None:
    """Make and put NAME's baozi."""
    workload = checked_workload(producers=(name,)).paced(pace)
    with _journal(journal, "producer", name) as own, _manager(address, authkey_file).opened() as queue:
        observed.produce(sentinel_queue, queue, name, workload, own)


@manager.command()
def consume(
    name: str,
    address: Address = _ADDRESS,
    authkey_file: AuthkeyFile = None,
    journal: JournalFolder = None,
    pace: Pace = 1.0,
) -> None:
    """Get and eat baozi as NAME, until a None comes."""
    workload = checked_workload(consumers=(name,)).paced(pace)
    with _journal(journal, "consumer", name) as own, _manager(address, authkey_file).opened() as queue:
        observed.consume(sentinel_queue, queue, name, workload, own)


@manager.command()
def close(
    consumers: Annotated[int, typer.Option(min=1, max=256, help="How many eat.")] = 2,
    address: Address = _ADDRESS,
    authkey_file: AuthkeyFile = None,
) -> None:
    """Put a None for each consumer: when every producer has finished, and not before."""
    with _manager(address, authkey_file).opened() as queue:
        for _ in range(consumers):
            queue.put(None)


def _journal(folder: Path | None, role: str, name: str) -> Journal:
    path = Path(os.devnull) if folder is None else folder / role / f"{name}.journal"
    try:
        return Journal(path)
    except OSError as error:
        raise UsageError(
            "The journal cannot be kept in {folder}: {strerror}.", folder=folder, strerror=error.strerror
        ) from error


def _manager(address: str, authkey_file: Path | None) -> ManagerAddress:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(
            "{address!r} is not an address. An address is HOST:PORT, such as {address2}.",
            address=address,
            address2=_ADDRESS,
        )
    return ManagerAddress(host, int(port), _authkey(authkey_file))


def _authkey(path: Path | None) -> bytes:
    try:
        secret = settings().authkey
        key = path.read_bytes().strip() if path else secret.get_secret_value().encode() if secret else b""
    except OSError as error:
        raise UsageError(
            "The authkey's file {path} cannot be read: {strerror}.", path=path, strerror=error.strerror
        ) from error
    if not key:
        raise UsageError(
            "An authkey is needed, the same for all processes. Set BAOZI_AUTHKEY, or give --authkey-file."
        )
    return key
