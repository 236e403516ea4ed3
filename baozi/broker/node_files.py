"""A private node's ports, configuration files and environment, separate from the system's RabbitMQ."""

import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from baozi.broker.state import Folder, Identity

#: Bytes of memory at which the node blocks its publishers: RabbitMQ 3's default share of the memory, 0.4, but
#: at most 2 GiB, and so much that an idle node (100 MiB) is not blocked.
_MOST_MEMORY = 2 * 1024**3
_LEAST_MEMORY = 256 * 1024**2
_SHARE = 0.4
#: Bytes of free disk below which it blocks them. RabbitMQ's default, 50 MB, is one segment file of a queue.
_LEAST_DISK = 200 * 1000**2
#: Bytes of the quorum queues' write-ahead log, which is kept in memory. The Quorum Queues guide recommends
#: three times as much memory. The default, 512 MiB, is too much for a small machine.
_WAL = 64 * 1024**2
#: A folder's name that a shell reads unchanged, quoted or not.
_SAFE = re.compile(r"[\w/.,:=@+~% -]*")


@dataclass(frozen=True)
class Ports:
    """Four ports of 127.0.0.1 that were free when they were chosen."""

    amqp: int
    management: int
    distribution: int
    epmd: int

    @classmethod
    def free(cls) -> "Ports":
        """Let the system choose four ports at once, so that they differ."""
        sockets = [socket.socket() for _ in range(4)]
        try:
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return cls(*(one.getsockname()[1] for one in sockets))
        finally:
            for one in sockets:
                one.close()


def memory_limit() -> int:
    """Return the bytes of memory at which a broker of this machine blocks its publishers."""
    return max(_LEAST_MEMORY, min(_MOST_MEMORY, int(psutil.virtual_memory().total * _SHARE)))


def write_files(folder: Folder, identity: Identity, ports: Ports) -> None:
    """Write the node's configuration and plugin list, and, the first time, its Erlang cookie.

    Users put their own lines in ``conf.d/*.conf`` in the folder, which RabbitMQ reads after this
    configuration. See RabbitMQ's Configuration guide. Every line is valid from 3.10 to 4.3.
    """
    folder.write(
        "rabbitmq.conf",
        f"""\
# Written anew at every start. Your own lines go to conf.d/, as in 90-mine.conf.
listeners.tcp.local = 127.0.0.1:{ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {ports.management}
default_user = baozi
default_pass = {identity.password}
# Without ANONYMOUS, which 4.x would allow.
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
vm_memory_high_watermark.absolute = {memory_limit()}
disk_free_limit.absolute = {_LEAST_DISK}
raft.wal_max_size_bytes = {_WAL}
log.file.level = info
""",
    )
    folder.write("enabled_plugins", "[rabbitmq_management].\n")
    (folder.path / "conf.d").mkdir(exist_ok=True)
    if not (folder.path / ".erlang.cookie").exists():
        # Erlang would make a cookie itself, with a random number generator that is not for secrets.
        folder.write(".erlang.cookie", secrets.token_hex(16)).chmod(0o400)


def search_path() -> str:
    """Return a PATH with the folders of server programs, which a user's PATH often lacks."""
    places = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/opt/homebrew/sbin",
    ]
    return os.pathsep.join([os.environ.get("PATH", ""), *places]).lstrip(os.pathsep)


def _data(folder: Path) -> Path:
    """Return the data folder, by a name that RabbitMQ can use.

    RabbitMQ's disk monitor passes the name to a shell. If it contains a quote, the node never gets
    the answer. In such a folder the returned path begins with /proc/self/cwd, because the node's working
    directory is ``folder``.
    """
    here = Path("/proc/self/cwd")
    return (folder if _SAFE.fullmatch(str(folder)) or not here.exists() else here) / "data"


def node_environment(folder: Path, node: str, ports: Ports) -> dict[str, str]:
    """Return the node's whole environment. Of the caller's environment it has only PATH.

    Sources: RabbitMQ's guides on configuration (environment variables) and networking (inter-node
    communication); ``epmd(1)`` and ``kernel(6)`` of Erlang/OTP.
    """
    data = _data(folder)
    return {
        "PATH": search_path(),
        "HOME": str(folder),  # where the Erlang cookie is
        # In this locale Erlang treats file names as bytes. In a UTF-8 one, 3.10's management plugin fails to
        # start in a folder whose name is not Latin.
        "LC_ALL": "C",
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # For all Erlang processes of the start scripts, not only the node.
        "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        # Each path is in this folder, even if there is no file, so that the system's files are not read.
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(data / "config"),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_MNESIA_DIR": str(data / "node"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(data / "feature_flags"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(data / "plugins"),
        "RABBITMQ_PID_FILE": str(data / "pid"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": str(folder / "rabbitmq.log"),
        "RABBITMQ_UPGRADE_LOG": str(folder / "upgrade.log"),
        # No busy waiting while idle, and threads are not bound to cores, because the machine has other work.
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }
