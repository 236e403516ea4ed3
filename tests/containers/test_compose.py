"""The compose file in containers: the main job, what watches it, who may do what, the data that stays."""

import os
import re
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from functools import partial

import pytest

from baozi.errors import ExitCode, ReportNotInstalled
from tests.browser import chromium
from tests.containers import operation_page
from tests.containers.compose import ROOT, Project, secret
from tests.containers.flower import Flower
from tests.waiting import wait_until

#: What a test's program does first: connect as the service's own user. Then it tries what it must not do, and
#: prints what the broker did not refuse.
TRY = """
import sys
from amqp.exceptions import AccessRefused
from kombu import Connection
from baozi.settings import settings
connection = Connection(settings().broker_url.get_secret_value(), connect_timeout=5)
for attempt in sys.argv[1:]:
    name, queue = attempt.split()
    try:
        getattr(connection.channel(), name)(queue)
    except AccessRefused:
        continue
    print(attempt)
"""

#: The run that a user made by hand, and how many baozi are in it.
BY_HAND, COUNT = "by-hand", 20

#: Where Compose publishes what docs/operation.md says, by the port that stands there.
VARIABLES = {"5555": "FLOWER_PORT", "15692": "PROMETHEUS_PORT"}


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """The main job, brought up and audited as a user does it."""
    project = Project(f"baozi-test-{os.getpid()}")
    try:
        done = subprocess.run(
            ["make", "up"],
            cwd=ROOT,
            env={**os.environ, **project.variables, "COMPOSE_PROJECT_NAME": project.name},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "30 accepted, 30 eaten, 0 lost, 0 duplicated" in done.stdout
        yield project
    finally:
        project.remove()


@pytest.fixture(scope="module")
def run(project: Project) -> str:
    """The main job's own run, once it is audited."""
    found = project.sql("SELECT run FROM order_sessions WHERE producer = 'alex'")
    assert found, "the ledger knows of no order of alex"
    return found


@pytest.fixture(scope="module")
def flower(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower in a browser that does not know the password."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield Flower(browser, f"127.0.0.1:{project.variables['FLOWER_PORT']}")


@pytest.mark.timeout(900)
def test_the_main_job_ends_with_an_audit_that_nothing_is_lost(project: Project) -> None:
    services = project.services()
    assert services["audit"]["ExitCode"] == 0
    for name in ("xiaoming", "xiaohong", "flower", "rabbitmq", "postgres"):
        assert services[name]["Health"] == "healthy", name
    eaten = project.logs("xiaoming") + project.logs("xiaohong")
    assert eaten.count("小明吃了") + eaten.count("小红吃了") == 30
    assert "ACCESS_REFUSED" not in eaten
    # Each worker has looked to which ledger the queue belongs.
    assert "not known" not in eaten
    assert "baozi.ledger" in project.rabbitmqctl("list_queues", "--vhost", "baozi", "name").split()


def test_nothing_of_ours_is_warned_of(project: Project) -> None:
    assert re.findall(r"\[[WEC] \d+ .*", project.logs("flower")) == []
    # The management plugin collects numbers for its pages and for Flower's; Prometheus is its successor.
    deprecated = set(re.findall(r"deprecated features: `(\w+)`", project.logs("rabbitmq").lower()))
    assert deprecated <= {"management_metrics_collection"}


def test_a_user_produces_more_with_one_command(project: Project) -> None:
    order = ["--name", "老王", "--count", str(COUNT), "--run", BY_HAND, "--json"]
    done = project.compose("run", "--rm", "-T", "produce", *order)
    assert done.returncode == 0, done.stderr
    assert f'"accepted": {COUNT}' in done.stdout


def test_all_that_there_is_to_watch_can_be_asked_as_the_page_says(project: Project, run: str) -> None:
    def shown(metric: operation_page.Metric) -> list[float]:
        pages = ""
        for port, path in operation_page.addresses():
            address = f"http://127.0.0.1:{project.variables[VARIABLES[port]]}{path}"
            with urllib.request.urlopen(address, timeout=10) as answer:
                pages += answer.read().decode()
        return operation_page.values(metric, pages)

    metrics = operation_page.metrics()
    assert len(metrics) == 6
    for what, metric in metrics.items():
        # RabbitMQ renews some of its numbers every few seconds.
        wait_until(partial(shown, metric), f"the metric of {what}, {metric}", 20)
    answers = {what: project.sql(query, run) for what, query in operation_page.queries().items()}
    assert len(answers) == 4
    assert float(answers["eaten per second"]) > 0
    assert float(answers["age of the oldest"]) > 0
    assert float(answers["age when eaten"]) > 0
    assert float(answers["delivered twice"]) == 0


@pytest.mark.parametrize("login", ["", "baozi:wrong", ":"])
def test_flower_shows_nothing_without_the_password(flower: Flower, login: str) -> None:
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    for page in ("", "workers", "tasks", "broker", "api/workers", "api/tasks", "tasks/datatable"):
        asked = urllib.request.Request(f"http://{flower.address}/{page}", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(asked, timeout=10)
        assert "小明" not in refused.value.read().decode()
        refused.value.close()
    assert flower.refused("workers")


def test_flower_shows_the_workers_and_each_runs_tasks(flower: Flower, run: str) -> None:
    flower.log_in("baozi", secret("FLOWER_PASSWORD"))
    assert flower.workers() == {"小明": "Online", "小红": "Online"}
    # The run's orders are closed by tasks of their own.
    for name, count, makers in ((run, 30, {"alex", "peiqi", "egon"}), (BY_HAND, COUNT, {"老王"})):
        tasks = flower.tasks(f"name:tasks.eat state:SUCCESS args:{name}", count)
        for task in tasks:
            assert task["name"] == "tasks.eat"
            assert task["state"] == "SUCCESS"
            assert task["worker"].partition("@")[0] in {"小明", "小红"}
            assert re.fullmatch(rf"{re.escape(name)}/\w+/\d+", task["args"])
        seen = {task["args"].split("/")[1] for task in tasks}
        assert flower.cut_off("args") == []
        assert seen <= makers
    assert flower.queues() >= {"baozi", "baozi.dead"}


@pytest.mark.parametrize(
    ("service", "attempts"),
    [
        ("produce", ["basic_get baozi", "queue_delete baozi", "queue_purge baozi"]),
        (
            "xiaoming",
            [
                *(f"queue_delete {queue}" for queue in ("baozi", "baozi.dead")),
                *(f"queue_declare {queue}" for queue in ("baozi", "baozi.dead", "baozi.ledger.mine", "mine")),
                "exchange_delete baozi",
            ],
        ),
        ("flower", ["basic_get baozi", "queue_purge baozi"]),
        ("audit", ["queue_delete baozi.dead", "basic_get baozi"]),
    ],
)
def test_no_service_can_do_what_its_user_has_no_permission_for(
    project: Project, service: str, attempts: list[str]
) -> None:
    done = project.as_user(service, TRY, *attempts)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "the broker did not refuse it"


def test_in_the_image_a_report_is_refused_with_the_reason(project: Project) -> None:
    for command in (["report", "."], ["compare", "queue", "--out", "results"]):
        done = project.compose("run", "--rm", "--no-deps", "-T", "audit", "baozi", *command)
        assert done.returncode == ExitCode.USAGE
        assert done.stderr.splitlines()[-1] == str(ReportNotInstalled())


def test_volumes_are_looked_into_before_a_start(project: Project) -> None:
    def check(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["deploy/check"],
            cwd=ROOT,
            env={**os.environ, "COMPOSE_PROJECT_NAME": name},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    of_now = check(project.name)
    assert (of_now.returncode, of_now.stderr) == (0, "")
    old = f"{project.name}-old"
    folder = "/data/17/docker"
    write = ["--entrypoint", "sh", "postgres:18", "-c", f"mkdir -p {folder} && echo 17 > {folder}/PG_VERSION"]
    docker = partial(subprocess.run, check=True, timeout=60, capture_output=True)
    try:
        docker(["docker", "run", "--rm", "--volume", f"{old}_postgres:/data", *write])
        refused = check(old)
        assert refused.returncode == 2
        assert "has data of PostgreSQL 17" in refused.stderr
    finally:
        docker(["docker", "volume", "rm", f"{old}_postgres"])


def test_the_data_is_there_again_after_down_and_up(project: Project) -> None:
    assert project.compose("down").returncode == 0
    assert project.services() == {}
    project.up()
    wait_until(lambda: project.services()["audit"]["State"] == "exited", "the audit to end", 180)
    assert "30 accepted, 30 eaten, 0 lost, 0 duplicated" in project.logs("audit")
    again = project.compose(
        "run", "--rm", "--no-deps", "-T", "audit", "baozi", "audit", BY_HAND, "--wait", "30"
    )
    assert f"{COUNT} accepted, {COUNT} eaten, 0 lost" in again.stdout, again.stderr
