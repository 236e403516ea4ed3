"""A RabbitMQ node of one's own, run from the machine's ``rabbitmq-server`` by any user, in one folder."""

import resource
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

#: Open files that a node needs. RabbitMQ keeps 100 for itself; nine tenths of the rest are for connections.
_FILES = 512
#: Seconds in which a node is ready or has failed.
_START_DEADLINE = 60
#: Seconds in which a stopped node may put its queues to disk before it is killed.
_STOP_DEADLINE = 30


class _PortTaken(BrokerNotStarted):
    """The broker did not start, for another process took one of its ports meanwhile; try again."""


def server() -> Path | None:
    """Where the machine's ``rabbitmq-server`` is, or ``None``.

    Debian's ``/usr/sbin/rabbitmq-server`` wants to be root and become ``rabbitmq``; the script behind it does
    not. It is the same in Red Hat's packages and in RabbitMQ's own.
    """
    behind = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if behind.exists():
        return behind
    found = shutil.which("rabbitmq-server", path=search_path())
    return Path(found).resolve() if found else None


def start_node(folder: Folder, program: Path, why: str) -> Record:
    """Start the node of ``folder``, which it keeps all its files in, and wait until it is ready.

    A port that someone took meanwhile is worth one more attempt, within the same 60 seconds.

    Raises:
        BrokerNotStarted: it has failed, or was not ready in time, and no process of it is left; says why.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < _FILES:
        raise BrokerNotStarted(
            f"The broker did not start: it needs {_FILES} open files, and this process may have {files}. Run"
            f" `ulimit -n {_FILES}` first."
        )
    deadline = time.monotonic() + _START_DEADLINE
    try:
        try:
            return _attempt(folder, program, why, deadline)
        except _PortTaken:
            return _attempt(folder, program, why, deadline)
    except OSError as error:
        raise BrokerNotStarted(f"The broker did not start: {error}.") from None


def stop_node(record: Record, at_once: bool = False) -> bool:
    """Let the node stop well for up to 30 seconds, as SIGTERM asks of it, then kill it; return if any was.

    Args:
        record: its start.
        at_once: whether it is killed without being asked first.

    Raises:
        BrokerNotStopped: a process of it is still there.
    """
    return end(record.mark, record.pid, None if at_once else _STOP_DEADLINE)


def runs(record: Record) -> bool:
    """Whether the node on record is ready and has not ended since."""
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
    when = f" within {_START_DEADLINE} seconds" if late else ""
    return BrokerNotStarted(
        f"The broker {record.node} did not start{when}: {why} (see *.log in {folder.path})."
    )


def _start_epmd(folder: Path, environment: dict[str, str], port: int) -> None:
    """Erlang's port mapper, one of our own: the usual one is shared, and outlives its nodes."""
    erl = shutil.which("erl", path=search_path())
    beside_erl = str(Path(erl).resolve().parent) if erl else ""
    program = shutil.which("epmd", path=f"{search_path()}:{beside_erl}")
    if program is None:
        raise BrokerNotStarted("The broker did not start: Erlang's epmd is not on the PATH.")
    epmd = spawn([program, "-address", "127.0.0.1", "-port", str(port)], environment, folder, "epmd.log")
    wait_until(lambda: epmd.poll() is not None or _listens(epmd.pid), 5)
    if epmd.poll() is not None:
        raise _PortTaken  # of which epmd says nothing


def _listens(pid: int) -> bool:
    """Whether this very process listens; another that has its port would answer a call, too."""
    try:
        return any(one.status == psutil.CONN_LISTEN for one in psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:
        return False
