"""A private RabbitMQ node: any user runs the machine's ``rabbitmq-server`` in a folder."""

import secrets
import shutil
import time
from pathlib import Path

import psutil

from baozi.broker.failure import port_taken, read_logs, reason
from baozi.broker.node_files import Ports, node_environment, search_path, write_files
from baozi.broker.processes import MARK, end, is_alive, spawn, wait_until
from baozi.broker.readiness import ReadySocket, check_broker_answers
from baozi.broker.state import Folder, Record
from baozi.errors import BrokerNotStarted
from baozi.language import Sentence

#: Open files that a node needs. RabbitMQ keeps 100 for itself; nine tenths of the rest are for connections.
_FILES = 512
#: Seconds within which a node must be ready.
_START_DEADLINE = 60
#: Seconds that a stopping node has to write its queues to disk before it is killed.
_STOP_DEADLINE = 30


class _PortTaken(BrokerNotStarted):
    """The broker did not start because another process took one of its ports. Try again."""


def server() -> Path | None:
    """Return the path of the machine's ``rabbitmq-server``, or None.

    Debian's ``/usr/sbin/rabbitmq-server`` must be run by root and becomes the user ``rabbitmq``. The script
    that it calls can be run by any user. The same is true of Red Hat's packages and of RabbitMQ's own.
    """
    behind = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if behind.exists():
        return behind
    found = shutil.which("rabbitmq-server", path=search_path())
    return Path(found).resolve() if found else None


def start_node(folder: Folder, program: Path, why: str) -> Record:
    """Start the node whose files are in ``folder``, and wait until it is ready.

    If another process took one of the ports, there is one more attempt within the same 60 seconds.

    Raises:
        BrokerNotStarted: it failed or was not ready in time, and none of its processes is left. The error
            says why.
    """
    import resource  # noqa: PLC0415  # not on Windows, where remote_mp is used with another broker

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < _FILES:
        raise BrokerNotStarted(
            "The broker did not start: it needs {needed} open files, and this process may have"
            " {allowed}. Run `ulimit -n {needed}` first.",
            needed=_FILES,
            allowed=files,
        )
    deadline = time.monotonic() + _START_DEADLINE
    try:
        try:
            return _attempt(folder, program, why, deadline)
        except _PortTaken:
            return _attempt(folder, program, why, deadline)
    except OSError as error:
        raise BrokerNotStarted("The broker did not start: {error}.", error=error) from None


def stop_node(record: Record, at_once: bool = False) -> bool:
    """Stop the node with SIGTERM, and kill it after 30 seconds. Return whether there was a process.

    Args:
        record: the record of its start.
        at_once: whether to kill it at once.

    Raises:
        BrokerNotStopped: one of its processes still runs.
    """
    return end(record.mark, record.pid, None if at_once else _STOP_DEADLINE)


def runs(record: Record) -> bool:
    """Return whether the recorded node is ready and still runs."""
    return record.ready and record.pid is not None and is_alive(record.pid, record.mark)


def _attempt(folder: Folder, program: Path, why: str, deadline: float) -> Record:
    identity, ports = folder.identity(), Ports.free()
    record = Record(
        kind="private",
        mark=secrets.token_hex(16),
        url=f"amqp://baozi:{identity.password}@127.0.0.1:{ports.amqp}/%2F",
        management_url=f"http://127.0.0.1:{ports.management}",
        node=f"{identity.name}@localhost",
        why=why,
    )
    write_files(folder, identity, ports)
    # Before the first process, so that `stop` finds what a killed `start` leaves.
    folder.keep(record)
    try:
        record = _run(folder, program, ports, record, deadline)
    except BaseException:
        end(record.mark, None, 0)
        folder.forget()
        raise
    folder.keep(record)
    return record


def _run(folder: Folder, program: Path, ports: Ports, record: Record, deadline: float) -> Record:
    environment = node_environment(folder.path, record.node, ports) | {MARK: record.mark}
    _start_epmd(folder.path, environment, ports.epmd)
    log = folder.path / "rabbitmq.log"
    log.unlink(missing_ok=True)
    with ReadySocket() as notice:
        environment["NOTIFY_SOCKET"] = notice.path
        node = spawn([str(program)], environment, folder.path, "startup.log")
        ready = notice.wait(node, deadline)
    if not ready:
        raise _failed(folder, record, late=ready is None)
    return record.model_copy(
        update={"pid": node.pid, "version": check_broker_answers(record.url, 5), "ready": True}
    )


def _failed(folder: Folder, record: Record, late: bool) -> BrokerNotStarted:
    said = read_logs(folder.path / "startup.log", folder.path / "rabbitmq.log")
    if port_taken(said):
        return _PortTaken()
    why = reason(said, finished=not late).replace(folder.identity().password, "***")
    when = Sentence(" within {seconds} seconds", seconds=_START_DEADLINE) if late else ""
    return BrokerNotStarted(
        "The broker {node} did not start{when}: {why} (see *.log in {path}).",
        node=record.node,
        when=when,
        why=why,
        path=folder.path,
    )


def _start_epmd(folder: Path, environment: dict[str, str], port: int) -> None:
    """Start a private port mapper of Erlang. The default one is shared and outlives its nodes."""
    erl = shutil.which("erl", path=search_path())
    beside_erl = str(Path(erl).resolve().parent) if erl else ""
    program = shutil.which("epmd", path=f"{search_path()}:{beside_erl}")
    if program is None:
        raise BrokerNotStarted("The broker did not start: Erlang's epmd is not on the PATH.")
    epmd = spawn([program, "-address", "127.0.0.1", "-port", str(port)], environment, folder, "epmd.log")
    wait_until(lambda: epmd.poll() is not None or _listens(epmd.pid), 5)
    if epmd.poll() is not None:
        raise _PortTaken  # epmd prints nothing about it


def _listens(pid: int) -> bool:
    """Return whether this process listens. A connection would not show which process has the port."""
    try:
        return any(one.status == psutil.CONN_LISTEN for one in psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:
        return False
