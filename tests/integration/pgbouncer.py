"""A real PgBouncer in transaction mode, before the tests' PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.requirements import need
from tests.waiting import wait_until

#: The user ``nobody``: PgBouncer refuses to be root.
_NOBODY = 65534


@contextmanager
def pooler(url: str, connections: int) -> Iterator[str]:
    """Yield a URL that leads to the database of ``url`` through so many connections that all share."""
    program = _program()
    server = make_url(url)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="baozi-"))
    users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{server.username}" "{server.password}"\n')
    configuration.write_text(
        "[databases]\n"
        f"* = host={server.host} port={server.port} user={server.username} password={server.password}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {users}\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nserver_round_robin = 1\n"
    )
    if os.geteuid() == 0:
        for file in (folder, users, configuration):
            os.chown(file, _NOBODY, _NOBODY)
    user = _NOBODY if os.geteuid() == 0 else None
    process = subprocess.Popen([program, "--quiet", str(configuration)], user=user)
    through = server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    try:
        wait_until(lambda: _accepts(through), "PgBouncer to accept connections", timeout=20)
        yield through
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


def _program() -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if shutil.which("pgbouncer", path=places) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"]
        for command in (["apt-get", "update"], [*install, "pgbouncer"]):
            subprocess.run(command, env=environment, check=False, timeout=300, capture_output=True)
    program = shutil.which("pgbouncer", path=places)
    need(program is not None, "this machine has no pgbouncer")
    return str(program)


def _accepts(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
