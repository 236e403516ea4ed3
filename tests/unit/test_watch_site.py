"""The server of `baozi watch` refuses those who do not know its address, and pages of other origins."""

import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from baozi.errors import PortInUse, UsageError
from baozi.status import Part
from baozi.watch.command import PAGE
from baozi.watch.feed import Feed, LiveSource
from baozi.watch.site import Site
from tests.waiting import wait_until

PASSWORD = "secret-of-a-test"  # noqa: S105  # of this test alone


@contextmanager
def serving(**options: Any) -> Iterator[tuple[Site, Feed, list[Any]]]:
    """A site with one source and one action, the feed, and what the action was called with."""
    calls: list[Any] = []

    def act(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(wanted)
        if wanted.get("fail"):
            raise UsageError("It cannot be done.")
        return {"done": True}

    feed = Feed([LiveSource("one", lambda: Part(facts={"text": "包子\u2028<script>"}), every=0.05)])
    site = Site(PAGE.read_text(), feed, {"act": act}, **options)
    site.start()
    try:
        yield site, feed, calls
    finally:
        site.stop()


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Site, Feed, list[Any]]]:
    with serving() as it:
        yield it


def ask(
    site: Site, method: str = "GET", path: str | None = None, body: object = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Return the status, the body and the headers of the answer."""
    url = urlsplit(site.url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port or 0, timeout=20)
    try:
        data = None if body is None else json.dumps(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, url.path if path is None else path, data, names)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def post(site: Site, body: object, path: str = "act", **headers: str) -> tuple[int, str]:
    url = urlsplit(site.url)
    own = {"Origin": f"http://{url.netloc}", "Content_Type": "application/json"} | headers
    status, text, _ = ask(site, "POST", url.path + path, body, **{k: v for k, v in own.items() if v})
    return status, text


def test_the_page_is_for_those_who_know_the_token(site: tuple[Site, Feed, list[Any]]) -> None:
    it, _, _ = site
    assert ask(it)[:2] == (200, PAGE.read_text())
    token = urlsplit(it.url).path.strip("/")
    assert len(token) >= 32
    for path in (
        "/",
        "//",
        f"/{token[:-1]}/",
        f"/{token}x/",
        "/events",
        f"/x/{token}/",
        "/%C3%A9/%ff",
    ):
        assert ask(it, path=path)[0] == 403, path
    assert ask(it, path=f"/{token[:-1]}/events")[0] == 403
    status, text, _ = ask(it, "POST", "/act", {}, Origin="http://127.0.0.1", Content_Type="application/json")
    assert (status, "token" in text) == (403, True)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[", 421),
        ("", 421),
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:5", 200),
    ],
)
def test_a_name_that_another_page_chose_is_refused(
    site: tuple[Site, Feed, list[Any]], host: str, status: int
) -> None:
    assert ask(site[0], Host=host)[0] == status


def test_only_the_page_itself_may_act(site: tuple[Site, Feed, list[Any]]) -> None:
    it, _, calls = site
    calls.clear()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Content_Type": "text/plain"},
        {"Content_Type": ""},
    ):
        assert post(it, {"id": "a"}, **headers)[0] == 403, headers
    assert calls == []
    assert post(it, {"id": "a"}) == (200, '{"done":true}')
    assert calls == [{"id": "a"}]
    assert ask(it, path=urlsplit(it.url).path + "act")[0] == 405, "a GET never acts"


def test_an_action_that_fails_is_answered_with_its_sentence(site: tuple[Site, Feed, list[Any]]) -> None:
    it, _, _ = site
    status, text = post(it, {"fail": True})
    assert (status, json.loads(text)["problem"]["en"]) == (409, "It cannot be done.")
    assert post(it, {}, path="other")[0] == 404
    assert post(it, ["no object"])[0] == 400
    assert post(it, {"long": "x" * 5000})[0] == 413


def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_but_itself(
    site: tuple[Site, Feed, list[Any]],
) -> None:
    _, _, headers = ask(site[0])
    policy = dict(one.split(" ", 1) for one in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert "unsafe" not in str(policy)
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["server"] is None
    # Refusals have the same headers.
    assert "Content-Security-Policy" in ask(site[0], path="/")[2]


def test_the_stream_has_a_line_for_each_reading_and_ends_with_the_viewer(
    site: tuple[Site, Feed, list[Any]],
) -> None:
    it, feed, _ = site
    url = urlsplit(it.url)
    assert feed.viewers == 0
    connection = http.client.HTTPConnection(str(url.hostname), url.port or 0, timeout=20)
    connection.request("GET", url.path + "events")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [answer.readline().decode().strip() for _ in range(5)]
    assert lines[:2] == ["event: settings", 'data: {"read_only": false}']
    reading = json.loads(lines[3].removeprefix("data: "))
    assert (reading["name"], reading["facts"]) == ("one", {"text": "包子\u2028<script>"})
    assert feed.viewers == 1
    answer.close()
    connection.close()
    wait_until(lambda: feed.viewers == 0, "the server to notice that nobody looks")


def test_with_read_only_nothing_can_be_done() -> None:
    with serving(read_only=True) as (it, _, calls):
        status, text = post(it, {"id": "a"})
        assert (status, json.loads(text)["problem"]["en"]) == (403, "This page is read-only.")
        assert calls == []
        assert ask(it)[0] == 200


def test_a_password_is_asked_for_in_addition_to_the_token() -> None:
    def login(text: str) -> str:
        return "Basic " + b64encode(text.encode()).decode()

    with serving(password=PASSWORD) as (it, _, calls):
        assert ask(it)[0] == 401
        for wrong in (
            login("baozi:"),
            login(f"x:{PASSWORD}"),
            "Basic \xe9",
            "Bearer x",
        ):
            assert ask(it, Authorization=wrong)[0] == 401
        assert post(it, {})[0] == 401
        right = login(f"baozi:{PASSWORD}")
        assert ask(it, Authorization=right)[0] == 200
        status, _, headers = ask(it, path="/", Authorization=right)
        assert (status, headers["Location"]) == (307, urlsplit(it.url).path)
        assert post(it, {}, Authorization=right, Origin="http://evil.example")[0] == 403
        assert post(it, {}, Authorization=right)[0] == 200
        assert calls == [{}]


def test_without_a_password_other_machines_cannot_reach_it() -> None:
    with pytest.raises(UsageError, match="Set BAOZI_WATCH_PASSWORD first"):
        Site("", Feed([]), {}, host="0.0.0.0")  # noqa: S104  # it is refused
    with pytest.raises(UsageError, match="no address"):
        Site("", Feed([]), {}, host="no.such.name.invalid")


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port}\. Choose another with --port"):
            Site("", Feed([]), {}, port=port)


def test_neither_requests_nor_the_token_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as (it, _, _):
        assert ask(it)[0] == 200
        assert ask(it, path="/")[0] == 403
    assert capfd.readouterr() == ("", "")
