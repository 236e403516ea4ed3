"""The management API is asked directly: no proxy and no redirect gets the administrator's password."""

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from baozi.broker.state import Record
from baozi.broker.temporary import TemporaryBroker
from baozi.errors import BrokerAway

PASSWORD = "sekret/#?" + "of-a-test"
LOGIN = b64encode(f"a:{PASSWORD}".encode()).decode()
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class Server(ThreadingHTTPServer):
    """Answers each request in the same way, and remembers them."""

    def __init__(self, status: int, location: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.location = status, location
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_DELETE = do_CONNECT = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(status: int = 204, location: str | None = None) -> Iterator[Server]:
    with Server(status, location) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def temporary_broker(management_url: str) -> TemporaryBroker:
    url = f"amqp://a:{PASSWORD.replace('/', '%2F').replace('#', '%23').replace('?', '%3F')}@127.0.0.1:1/%2F"
    record = Record(kind="private", mark="m", url=url, management_url=management_url, node="n", why="a test")
    return TemporaryBroker(Path("unused"), record)


@pytest.mark.parametrize("variable", PROXIES)
def test_a_proxy_of_the_environment_is_not_asked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as proxy, serving() as management:
        monkeypatch.setenv(variable, proxy.url)
        with temporary_broker(management.url).virtual_host("v") as url:
            assert url.endswith("/v")
        assert proxy.asked == []
        assert management.asked == [
            ("PUT", "/api/vhosts/v", f"Basic {LOGIN}"),
            ("DELETE", "/api/vhosts/v", f"Basic {LOGIN}"),
        ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int) -> None:
    with serving() as elsewhere, serving(status, f"{elsewhere.url}/api/vhosts/v") as management:
        with pytest.raises(BrokerAway) as caught, temporary_broker(management.url).virtual_host("v"):
            pass
        assert elsewhere.asked == []
        assert PASSWORD not in str(caught.value)
