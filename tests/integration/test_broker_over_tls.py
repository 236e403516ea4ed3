"""``amqps://``: a server with another name gets no password, whoever signed its certificate."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.place import Place
from tests.integration.tls import Authority, TlsServer, urls
from tests.requirements import need
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

DELAY = """
from tasks.eating import eat
eat.apply_async(({"run": "r", "producer": "alex", "number": 0, "made_at": 0},), retry=False)
"""
REMOTE = """
from remote_mp import Queue
queue = Queue(name="tls", window=WINDOW)
queue.put(1)
assert queue.get(timeout=20) == 1
queue.close()
queue.join_thread()
"""
#: Each way into the project that connects to a broker.
PROGRAMS = {
    "produce": ["-m", "baozi", "produce", "--count", "1", "--timeout", "3"],
    "dead letters": ["-m", "baozi", "dead", "list", "--timeout", "3"],
    "eat.delay": ["-c", DELAY],
    "remote_mp": ["-c", REMOTE.replace("WINDOW", "1")],
    "remote_mp with a window": ["-c", REMOTE.replace("WINDOW", "100")],
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    need(shutil.which("openssl") is not None, "this machine has no openssl")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority, private_place: Place) -> Iterator[Callable[[str], TlsServer]]:
    """Makes servers in front of the broker, each with a certificate for the names given."""
    parts = urlsplit(private_place.url)
    servers: list[TlsServer] = []

    def make(alternatives: str) -> TlsServer:
        context = authority.certified(f"server-{len(servers)}", alternatives)
        servers.append(TlsServer(context, (str(parts.hostname), int(parts.port or 0))))
        return servers[-1]

    yield make
    for one in servers:
        one.close()


class Client:
    """Runs programs that trust the authority."""

    def __init__(self, place: Place, authority: Authority) -> None:
        parts = urlsplit(place.url)
        self.place = place
        self.password = str(parts.password)
        self.login = f"{parts.username}:{parts.password}"
        self.trust = str(authority.certificate)

    def url(self, *servers: TlsServer, host: str = "localhost") -> str:
        return urls(servers, self.login, self.place.virtual_host, host)

    def environment(self, url: str) -> dict[str, str]:
        ours = self.place.environment(broker_url=url, broker_timeout=3)
        return {**os.environ, **ours, "SSL_CERT_FILE": self.trust}

    def run(self, program: str, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *PROGRAMS[program]],
            env=self.environment(url),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture
def client(private_place: Place, authority: Authority) -> Client:
    # The queue is there: one of these programs declares nothing.
    private_place.produce("before", "alex", 1)
    return Client(private_place, authority)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_server_that_the_url_names_gets_the_password(
    program: str, client: Client, server: Callable[[str], TlsServer]
) -> None:
    right = server("DNS:localhost")
    done = client.run(program, client.url(right))
    assert done.returncode == 0, done.stderr
    assert client.password.encode() in right.received


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_server_of_the_same_authority_gets_no_password(
    program: str, client: Client, server: Callable[[str], TlsServer]
) -> None:
    other = server("DNS:postgres,DNS:localhost.example,IP:127.0.0.2")
    done = client.run(program, client.url(other))
    assert done.returncode != 0
    assert other.came > 0
    assert other.received == b""
    assert "certificate verify failed" in done.stderr
    assert client.password not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("host", "alternatives", "accepted"),
    [
        ("127.0.0.1", "IP:127.0.0.1", True),
        ("127.0.0.1", "DNS:localhost", False),
        ("127.0.0.1", "DNS:127.0.0.1", False),
        ("localhost", "IP:127.0.0.1", False),
        ("localhost", "DNS:*", False),
    ],
)
def test_an_address_and_a_name_are_two_names(
    host: str, alternatives: str, accepted: bool, client: Client, server: Callable[[str], TlsServer]
) -> None:
    one = server(alternatives)
    done = client.run("produce", client.url(one, host=host))
    assert (done.returncode == 0) is accepted, done.stderr
    assert (client.password.encode() in one.received) is accepted


def test_of_a_cluster_each_node_is_checked_by_its_own_name(
    client: Client, server: Callable[[str], TlsServer]
) -> None:
    wrong, right = server("DNS:postgres"), server("DNS:localhost,IP:127.0.0.1")
    by_address = client.url(right, host="127.0.0.1")
    done = client.run("produce", f"{client.url(wrong)};{by_address}")
    assert done.returncode == 0, done.stderr
    assert wrong.came > 0
    assert wrong.received == b""


def test_a_worker_sends_no_password_to_another_server_and_goes_on_to_the_right_one(
    client: Client, server: Callable[[str], TlsServer]
) -> None:
    place = client.place
    wrong, right = server("DNS:postgres"), server("DNS:localhost")
    with_trust = {"broker_url": f"{client.url(wrong)};{client.url(right)}"}
    os_environment = {"SSL_CERT_FILE": client.trust}
    log = place.home / "worker.log"
    with log.open("w") as stderr:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-P", "solo"],
            env={**os.environ, **place.environment(**with_trust), **os_environment},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            wait_until(lambda: place.eaten("before") == 1, f"the worker to eat; see {log}", 60)
        finally:
            worker.terminate()
            worker.wait(30)
    assert wrong.came > 0
    assert wrong.received == b""
    assert client.password not in log.read_text()
