"""The broker's URL: what is taken, what is refused, and that no part of a password is ever shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.amqp.connection import broker_url
from baozi.broker_url import Node, nodes, safe_url
from baozi.errors import UsageError
from baozi.settings import settings
from remote_mp import Queue

ROOT = Path(__file__).parents[2]

#: Two halves of a password, with the character that is wrong between them.
HALVES = ("sekretone", "sekrettwo")

GOOD = {
    "amqp://u:p@h:5672/v": Node("amqp", "h", 5672, "u", "p", "v"),
    "amqp://u:p@h": Node("amqp", "h", 5672, "u", "p", "/"),
    "amqp://u:p@h/": Node("amqp", "h", 5672, "u", "p", "/"),
    "amqp://u:p@h//": Node("amqp", "h", 5672, "u", "p", "/"),
    "amqp://u:p@h/%2F": Node("amqp", "h", 5672, "u", "p", "/"),
    "amqp://u:p@h/a%2Fb": Node("amqp", "h", 5672, "u", "p", "a/b"),
    "amqps://u:p@h": Node("amqps", "h", 5671, "u", "p", "/"),
    "pyamqp://u:p@h": Node("amqp", "h", 5672, "u", "p", "/"),
    "pyamqps://u:p@h": Node("amqps", "h", 5671, "u", "p", "/"),
    "AMQP://u:p@h": Node("amqp", "h", 5672, "u", "p", "/"),
    "amqp://localhost": Node("amqp", "localhost", 5672, None, None, "/"),
    "amqp://u@h": Node("amqp", "h", 5672, "u", None, "/"),
    "amqp://u:p@[::1]:5673/v": Node("amqp", "::1", 5673, "u", "p", "v"),
    "amqp://u:p@[FE80::0:1]": Node("amqp", "fe80::1", 5672, "u", "p", "/"),
    "amqp://u:p@10.0.0.1:65535": Node("amqp", "10.0.0.1", 65535, "u", "p", "/"),
    "amqp://u:p@rabbit_1.example.com.": Node("amqp", "rabbit_1.example.com.", 5672, "u", "p", "/"),
    "amqp://%E5%B0%8F:%23%2F%3F%5B%5D%40%3A%3B%25%20@h": Node("amqp", "h", 5672, "小", "#/?[]@:;% ", "/"),
    "amqp://u:a!$&'()*+,=-._~^|{}@h": Node("amqp", "h", 5672, "u", "a!$&'()*+,=-._~^|{}", "/"),
    "memory://": Node("memory"),
}
LONG = "a" * 64
BAD_HOSTS = [
    "",
    "a..b",
    ".a",
    "-a",
    "a-",
    "a b",
    "a%20b",
    f"{LONG}.b",
    ".".join(["a" * 60] * 5),
    "h,i",
    "[::1",
    "[h]",
]
BAD_HOSTS += ["[fe80::1%25eth0]", "[::1]x", "::1", "[]", "h:1:2"]
BAD_PORTS = [
    "0",
    "65536",
    "99999",
    "999999999999999999999",
    "port",
    "-1",
    "+1",
    "1_0",
    " 1",
    "",
    "0x1",
    "5672.0",
    "١",
]
BAD_QUERIES = [
    "?connection_timeout=5",
    "?heartbeat=",
    "?heartbeat=0",
    "/v?ssl=1",
    "/v?",
    "/v#x",
    "#",
    "//?x=y",
]


def refusal(url: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        nodes(url)
    assert caught.value.__cause__ is None
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 200
    return sentence


def refused_without_the_password(url: str) -> str:
    sentence = refusal(url)
    assert not any(half in sentence for half in HALVES)
    return sentence


@pytest.mark.parametrize(("url", "node"), GOOD.items())
def test_a_url_is_taken_apart(url: str, node: Node) -> None:
    assert nodes(url) == [node]


@pytest.mark.parametrize(
    "raw", ["#", "/", "?", "[", "]", "@", ":", ";", " ", "%", "%2", "%G0", "\t", "\n", "小", "\x7f"]
)
@pytest.mark.parametrize("scheme", ["amqp", "amqps", "pyamqp"])
@pytest.mark.parametrize("where", ["middle", "start", "end"])
def test_a_raw_character_in_a_password_is_refused_and_nothing_of_it_is_shown(
    raw: str, scheme: str, where: str
) -> None:
    password = {"middle": raw.join(HALVES), "start": raw + HALVES[0], "end": HALVES[0] + raw}[where]
    sentence = refused_without_the_password(f"{scheme}://worker:{password}@rabbitmq:5672/baozi")
    assert "worker" not in sentence


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_bad_host_is_refused(host: str) -> None:
    sentence = refused_without_the_password(f"amqp://u:{HALVES[0]}@{host}/v")
    assert "host" in sentence or "space" in sentence or "port" in sentence


@pytest.mark.parametrize("port", BAD_PORTS)
def test_a_bad_port_is_refused(port: str) -> None:
    sentence = refused_without_the_password(f"amqp://u:{HALVES[0]}@h:{port}/v")
    assert "port" in sentence or "space" in sentence or "ASCII" in sentence


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_options_in_the_url_are_refused(query: str) -> None:
    sentence = refused_without_the_password(f"amqp://u:{HALVES[0]}@h{query}")
    assert "query" in sentence or "fragment" in sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:sekretone@h",
        "http://u:sekretone@h",
        "https://h",
        "sqs://",
        "amqp",
        "u:sekretone@h",
        "h:5672",
        "amqp:/h",
        "://h",
        "memory://x",
        "memory:",
        " amqp://h",
        "amqp+ssl://h",
        "kombu.transport.pyamqp:Transport://h",
    ],
)
def test_another_scheme_is_refused(url: str) -> None:
    sentence = refused_without_the_password(url)
    assert "amqp" in sentence or "memory" in sentence or "space" in sentence


@pytest.mark.parametrize(
    "url",
    [
        "amqp://u:sekretone@h;",
        ";amqp://u:sekretone@h",
        "amqp://u:sekretone@a;;amqp://u:sekrettwo@b",
        "amqp://u:sekretone@a; amqp://u:sekrettwo@b",
        "amqp://u:sekretone@a ;amqp://u:sekrettwo@b",
        "amqp://u:sekretone@a; ",
        "amqp://u:sekretone@a;\tamqp://u:sekrettwo@b",
        "amqp://u:sekretone@a;b",
        "amqp://u:sekretone@a;b:5672",
        "amqp://u:sekretone@a/v;amqp://u:sekrettwo@b/w",
        "amqp://u:sekretone@a;amqps://u:sekrettwo@b",
        "amqp://u:sekretone@a;memory://",
        "memory://;memory://",
        "amqp://u:sekretone@a,amqp://u:sekrettwo@b",
    ],
)
def test_a_clusters_url_is_refused_where_one_of_them_is_wrong(url: str) -> None:
    refused_without_the_password(url)


def test_a_clusters_url_gives_each_node() -> None:
    found = nodes("amqps://u:p@a/v;amqps://w:q@b:1/v;pyamqps://u:p@[::1]/v")
    assert [(node.host, node.port, node.user) for node in found] == [
        ("a", 5671, "u"),
        ("b", 1, "w"),
        ("::1", 5671, "u"),
    ]


def test_the_error_names_the_url_of_a_cluster_that_is_wrong() -> None:
    assert "(URL 2 of 3)" in refusal("amqp://a;amqp://b:x;amqp://c")


@pytest.mark.parametrize(
    "url",
    [
        "amqp://u:@h",
        "amqp://:sekretone@h",
        "amqp://@h",
        "amqp://:@h",
        "amqp://u:%FFsekretone@h",
        "amqp://u:%00sekretone@h",
        "amqp://%00:sekretone@h",
        "amqp://u:sekretone",
        "amqp://u:sekretone@",
        "amqp://u:sekretone@/v",
        "amqp://u:sekretone@h/a/b",
        "amqp://u:sekretone@h///",
        f"amqp://u:sekretone@h/{'v' * 256}",
        f"amqp://u:{'sekretone' * 1000}@h",
        "amqp://",
    ],
)
def test_a_url_in_which_kombu_would_replace_a_part_is_refused(url: str) -> None:
    refused_without_the_password(url)


def test_a_node_does_not_show_its_password() -> None:
    [node] = nodes("amqp://u:sekretone@h")
    assert "sekretone" not in repr(node)
    assert (node.user, node.password) == ("u", HALVES[0])


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("amqp://u:a%3Bb@h;amqp://v:c@i", "amqp://u:***@h;amqp://v:***@i"),
        ("amqp://u:a;b@h", "amqp://u:***@h"),
        ("amqp://u:a@b; amqp://v:c@d", "amqp://u:***@b; amqp://v:***@d"),
        ("amqps://u:a@[::1]:5671//", "amqps://u:***@[::1]:5671//"),
    ],
)
def test_a_safe_url_shows_no_password_of_a_cluster(url: str, safe: str) -> None:
    assert safe_url(url) == safe


URLS = [
    "amqp://u:sekretone#sekrettwo@h",
    "redis://u:sekretone@h",
    "amqp://u:sekretone@h?heartbeat=5",
    "amqp://u:sekretone@a; amqp://u:sekretone@b",
]
FRONT_DOOR = ("baozi", "produce", "--count", "1")
COMMANDS = [
    ("baozi", "dead", "list"),
    ("baozi", "broker", "status"),
    ("baozi", "audit", "r"),
    ("celery", "-A", "tasks", "worker", "-c", "1"),
    ("celery", "-A", "tasks", "report"),
]


@pytest.mark.parametrize(
    ("command", "url"), [*((FRONT_DOOR, url) for url in URLS), *((command, URLS[0]) for command in COMMANDS)]
)
def test_each_command_says_it_in_one_sentence_and_exits_with_2(
    command: tuple[str, ...], url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "BAOZI_BROKER_URL": url, "BAOZI_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.strip().splitlines()
    assert sentence.startswith("BAOZI_BROKER_URL: ")
    assert not any(half in done.stdout + done.stderr for half in HALVES)


@pytest.mark.parametrize(
    "url", ["amqp://u:p@h", "amqps://u:p@h/v", "pyamqp://u:p@h", "pyamqps://a;pyamqps://b"]
)
def test_a_queue_of_remote_mp_takes_the_same_urls(url: str) -> None:
    assert ":p@" not in repr(Queue(name="q", url=url))


@pytest.mark.parametrize("url", ["memory://", *URLS])
def test_a_queue_of_remote_mp_refuses_the_same_urls_without_their_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Queue(name="q", url=url)
    assert not any(half in str(caught.value) for half in HALVES)


def test_a_queue_of_remote_mp_refuses_a_broker_inside_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", "memory://")
    monkeypatch.setenv("BAOZI_HOME", str(tmp_path))
    settings.cache_clear()
    broker_url.cache_clear()
    with pytest.raises(UsageError, match="needs RabbitMQ"):
        Queue[int](name="q").put(1)
    settings.cache_clear()
    broker_url.cache_clear()
