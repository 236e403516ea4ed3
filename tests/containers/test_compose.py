"""The compose file in real containers: the main job, the data that stays, and who may do what."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from baozi.broker import container
from tests.containers.compose import ROOT, Project
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
