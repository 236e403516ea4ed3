"""The compose file in real containers: the main job, the data that stays, and who may do what."""

import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from baozi.broker import container
from tests.browser import chromium
from tests.containers.compose import ROOT, Project, secret
from tests.requirements import need
from tests.waiting import wait_until

#: What a test's program does first: connect as the service's own user.
CONNECT = """
from kombu import Connection
from baozi.settings import settings
connection = Connection(settings().broker_url.get_secret_value(), connect_timeout=5)
channel = connection.default_channel
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """The main job, up."""
    need(container.engine_answers(), "no Docker engine answers")
    subprocess.run(["deploy/secrets"], cwd=ROOT, check=True, timeout=30, capture_output=True)
    project = Project(f"baozi-test-{os.getpid()}")
    try:
        project.up()
        yield project
    finally:
        project.compose("down", "--volumes", "--remove-orphans")


def audited(project: Project) -> str:
    """The audit's table, once it has ended."""

    def ended() -> bool:
        return project.services().get("audit", {}).get("State") == "exited"

    wait_until(ended, "the audit to end", 180)
    return project.logs("audit")


def run_of(audit: str) -> str:
    """The name that the service `opening` gave the run."""
    named = re.search(r"\d{8}-\d{6}", audit)
    assert named, audit
    return named[0]


@pytest.mark.timeout(900)
def test_the_main_job_ends_with_an_audit_that_nothing_is_lost(project: Project) -> None:
    assert "30 accepted, 30 eaten, 0 lost, 0 duplicated" in audited(project)
    services = project.services()
    assert services["audit"]["ExitCode"] == 0
    for name in ("xiaoming", "xiaohong", "flower", "rabbitmq", "postgres"):
        assert services[name]["Health"] == "healthy", name
    eaten = project.logs("xiaoming") + project.logs("xiaohong")
    assert eaten.count("小明吃了") + eaten.count("小红吃了") == 30
    assert "ACCESS_REFUSED" not in eaten


def test_a_user_produces_more_with_one_command(project: Project) -> None:
    order = ["--name", "老王", "--count", "20", "--run", "by-hand", "--json"]
    done = project.compose("run", "--rm", "-T", "produce", *order)
    assert done.returncode == 0, done.stderr
    assert '"accepted": 20' in done.stdout


@pytest.mark.parametrize(
    ("service", "program"),
    [
        ("produce", "channel.basic_get('baozi')"),
        ("produce", "channel.queue_delete('baozi')"),
        ("produce", "channel.queue_purge('baozi')"),
        ("xiaoming", "channel.queue_delete('baozi')"),
        ("xiaoming", "channel.exchange_delete('baozi')"),
        ("xiaoming", "channel.queue_delete('baozi.dead')"),
        ("flower", "channel.basic_get('baozi')"),
        ("audit", "channel.queue_delete('baozi.dead')"),
    ],
)
def test_nobody_may_do_what_is_not_theirs(project: Project, service: str, program: str) -> None:
    done = project.as_user(service, CONNECT + program)
    assert done.returncode != 0
    assert "ACCESS_REFUSED" in done.stderr


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


def flower(project: Project, path: str, login: str = "") -> str:
    return f"http://{login}127.0.0.1:{project.variables['FLOWER_PORT']}/{path}"


@pytest.mark.parametrize("path", ["", "workers", "tasks", "broker", "api/workers", "api/tasks"])
@pytest.mark.parametrize("login", ["", "baozi:wrong", ":"])
def test_flower_shows_nothing_to_who_has_not_the_password(project: Project, path: str, login: str) -> None:
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(flower(project, path), headers=headers), timeout=20)  # noqa: S310  # loopback
    assert refused.value.code == 401
    assert "小明" not in refused.value.read().decode()
    refused.value.close()


def test_flower_shows_the_workers_by_name_and_what_was_eaten_in_which_run(
    project: Project, browser: Chrome
) -> None:
    run = run_of(audited(project))
    browser.get(flower(project, "workers", f"baozi:{secret('FLOWER_PASSWORD')}@"))

    def shown(*words: str) -> bool:
        text = browser.find_element(By.TAG_NAME, "body").text
        return all(word in text for word in words)

    wait_until(lambda: shown("小明@", "小红@"), "the workers to be shown")
    browser.get(flower(project, "tasks"))
    search = wait_until(
        lambda: browser.find_elements(By.CSS_SELECTOR, "input[type=search]"), "the search box"
    )[0]
    search.send_keys(run)
    wait_until(lambda: shown("tasks.eat", "SUCCESS", run, "alex"), "a task that was eaten to be shown")
    assert re.search(
        r"'producer': '(alex|peiqi|egon)', 'number': \d", browser.page_source.replace("&#x27;", "'")
    )
    # Another run's are not among them.
    search.clear()
    search.send_keys("no-such-run")
    wait_until(lambda: shown("No tasks match"), "none to be shown")


def test_flower_has_nothing_to_warn_of(project: Project) -> None:
    lines = project.logs("flower").splitlines()
    assert not [line for line in lines if re.search("warn|error|exception|traceback", line, re.IGNORECASE)]


def test_each_thing_to_watch_has_a_query_that_answers(project: Project) -> None:
    run = run_of(audited(project))
    page = (ROOT / "docs" / "operation.md").read_text()
    table = page.split("## What to watch")[1].split("\n\n")[1]
    queries = re.findall(r"\| `(.+)` \|$", table, re.MULTILINE)
    assert len(queries) == table.count("\n") - 1
    metrics = [query for query in queries if query.startswith("rabbitmq_")]
    assert metrics
    port = project.variables["PROMETHEUS_PORT"]
    told = "".join(
        urlopen(f"http://127.0.0.1:{port}/metrics{path}", timeout=20).read().decode()  # loopback
        for path in ("", "/detailed?family=queue_coarse_metrics")
    )
    for metric in metrics:
        name, _, label = metric.partition("{")
        assert re.search(rf"^{name}.*{re.escape(label.rstrip('}'))}.* [\d.e+]+$", told, re.MULTILINE), metric
    for query in queries:
        if query.startswith("SELECT"):
            answer = project.sql(query.replace(":run", f"'{run}'"))
            assert re.fullmatch(r"[\d.]*\n", answer), (query, answer)
    with urlopen(flower(project, "metrics"), timeout=20) as answer:  # noqa: S310  # loopback
        assert "flower_events_total" in answer.read().decode()


def test_the_data_is_there_again_after_down_and_up(project: Project) -> None:
    audited(project)
    assert project.compose("down").returncode == 0
    assert project.services() == {}
    project.up()
    assert "30 accepted, 30 eaten, 0 lost, 0 duplicated" in audited(project)
    again = project.compose(
        "run", "--rm", "--no-deps", "-T", "audit", "baozi", "audit", "by-hand", "--wait", "30"
    )
    assert "20 accepted, 20 eaten, 0 lost" in again.stdout, again.stderr


def test_the_broker_warns_of_no_deprecated_feature_but_its_own_pages(project: Project) -> None:
    named = set(re.findall(r"deprecated features: `(\w+)`", project.logs("rabbitmq").lower()))
    # The management plugin collects numbers for its pages and for Flower's; Prometheus is its successor.
    assert named <= {"management_metrics_collection"}


def test_without_secrets_compose_says_what_to_do() -> None:
    need(container.engine_answers(), "no Docker engine answers")
    command = ["docker", "compose", "--env-file", "/dev/null", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "run `make secrets` first" in done.stderr
