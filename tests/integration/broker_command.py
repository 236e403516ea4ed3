"""`baozi broker` as a user runs it: in a process of its own, in a home of its own, maybe as nobody."""

import json
import os
import pwd
import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
from kombu import Connection

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class User:
    """Who runs a command, with which Python, and where that finds its packages."""

    uid: int | None
    python: str = sys.executable
    packages: str = ""


def unprivileged() -> User | None:
    """Ourselves if we are not root; else ``nobody``, where there is a Python that ``nobody`` may run."""
    if os.geteuid() != 0:
        return User(None)
    uid = pwd.getpwnam("nobody").pw_uid
    packages = str(Path(psutil.__file__).parents[1])
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [python, "-c", "import psutil, pydantic, typer"],
                env={"PYTHONPATH": packages},
                user=uid,
                group=uid,
                check=True,
                timeout=30,
                capture_output=True,
            )
            return User(uid, python, packages)
    return None


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its output, read as JSON."""
        facts: dict[str, Any] = json.loads(self.out)
        return facts


@dataclass(frozen=True)
class Home:
    """A home whose ``baozi broker`` the tests run, as ``user``."""

    path: Path
    user: User

    @property
    def folder(self) -> Path:
        """Where the broker keeps its files."""
        return self.path / "broker"

    def give(self, *paths: Path) -> None:
        """Make ``paths`` the user's."""
        for path in paths:
            os.chown(path, -1 if self.user.uid is None else self.user.uid, -1)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        path = os.pathsep.join([str(ROOT), self.user.packages])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BAOZI_")}
        return subprocess.Popen(
            [self.user.python, "-P", "-c", "from baozi.__main__ import main; main()", "broker", *words],
            env={**kept, "PYTHONPATH": path, "BAOZI_HOME": str(self.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.user.uid,
            group=self.user.uid,
            extra_groups=None if self.user.uid is None else [],
        )

    def run(self, *words: str, timeout: float = 100) -> Said:
        """Run a command to its end."""
        with self.begin(*words) as command:
            try:
                out, err = command.communicate(timeout=timeout)
            finally:
                command.kill()
        return Said(command.returncode, out, err)

    def start(self) -> dict[str, Any]:
        """Start the broker, or fail with what the command said."""
        said = self.run("start", "--json")
        assert said.code == 0, said.err
        return said.json

    def status(self) -> dict[str, Any]:
        """What ``status`` tells."""
        return self.run("status", "--json").json

    def url(self) -> str:
        """The broker's address, password and all."""
        return str(self.run("env", "--json").json["BAOZI_BROKER_URL"])

    def processes(self) -> list[psutil.Process]:
        """Every living process that has this home in its environment or its command line."""
        return [process for process in psutil.process_iter() if self._concerns(process)]

    def programs(self) -> list[str]:
        """The names of these processes; one that ends meanwhile has none."""
        ours = {process.pid for process in self.processes()}
        return [process.info["name"] for process in psutil.process_iter(["name"]) if process.pid in ours]

    def wait_for_a(self, program: str) -> None:
        """Wait until a process of this name concerns this home."""
        wait_until(lambda: program in self.programs(), f"a process {program}")

    def _concerns(self, process: psutil.Process) -> bool:
        try:
            words = [*process.environ().values(), *process.cmdline()]
        except psutil.Error:
            return False
        return process.pid != os.getpid() and any(str(self.folder) in word for word in words)


def log_in(url: str) -> str:
    """Connect and close, once; return the password.

    Raises:
        AccessRefused: of py-amqp; the broker does not take the user or the password.
    """
    with Connection(url, connect_timeout=5) as connection:
        connection.connect()
        return str(connection.password)


def shows_in_a_command_line(password: str) -> bool:
    """Whether anyone's ``ps`` shows it."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return any(password in word for line in lines for word in line)


def refused_by_management(url: str, user: str, password: str) -> bool:
    """Whether the management API refuses this login."""
    login = b64encode(f"{user}:{password}".encode()).decode()
    request = Request(f"{url}/api/whoami", headers={"Authorization": f"Basic {login}"})
    try:
        with urlopen(request, timeout=20):
            return False
    except HTTPError as error:
        return error.code == 401
