"""`baozi doctor` on real brokers, real workers and apps that cannot be looked at."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from baozi.broker_url import nodes
from baozi.doctor import broker
from baozi.doctor.examination import Examination, examine, findings
from baozi.doctor.facts import Facts
from baozi.doctor.report import as_json, lines
from baozi.errors import ExitCode
from baozi.topology import Topology
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.integration.shops import Shop
from tests.running import run
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: The settings that make a plain app sound, but for its queue.
SOUND = """
broker_transport_options = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
broker_connection_max_retries = None
broker_channel_error_retry = True
control_queue_exclusive = False
control_queue_durable = True
task_create_missing_queues = False
task_acks_late = task_reject_on_worker_lost = True
task_acks_on_failure = task_acks_on_timeout = False
task_time_limit = 50
task_annotations = {"*": {"mandatory": True}}
task_default_queue = "work"
worker_prefetch_multiplier = 1
worker_cancel_long_running_tasks_on_connection_loss = True
worker_max_memory_per_child = 500_000
"""
QUORUM = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 5,
    "x-dead-letter-exchange": "work.dead",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
APP = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("work", broker="{url}", backend="{backend}", set_as_current=False)
app.config_from_object("{name}_settings")
# Without its type Celery asks for a prefetch that a quorum queue refuses.
arguments = {{"x-queue-type": "quorum"}}
work = Queue("work", Exchange("work", type="topic"), None, "work", no_declare=True, queue_arguments=arguments)
app.conf.task_queues = [work]
@app.task(name="work.add", shared=False)
def add(x):
    return x
"""
_number = count()


class Project:
    """A folder with somebody's app, a module that no other test has."""

    def __init__(self, folder: Path, url: str, backend: str = "disabled://", settings: str = SOUND) -> None:
        self.folder = folder
        self.name = f"doctored_{next(_number)}"
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.py").write_text(APP.format(url=url, backend=backend, name=self.name))
        self.set(settings)

    def set(self, settings: str) -> None:
        """Give the app these settings."""
        (self.folder / f"{self.name}_settings.py").write_text(settings)

    def examine(self, **options: Any) -> Examination:
        """Examine it in this process."""
        with chdir(self.folder):
            return examine(self.name, **options)

    def doctor(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command here."""
        return run(
            [sys.executable, "-m", "baozi", "doctor", "-A", self.name, *arguments],
            60,
            self.folder,
            {**os.environ, "PYTHONPATH": str(ROOT), "BAOZI_HOME": str(self.folder), **environment},
        )


@pytest.fixture
def project(private_place: Place, tmp_path: Path) -> Project:
    return Project(tmp_path / "project", private_place.url)


@pytest.fixture(autouse=True)
def no_shared_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps of this process have their own tasks only: pytest's plug-in for Celery shares some with each."""
    monkeypatch.setattr("celery._state._on_app_finalizers", set())


@pytest.fixture
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is asked: that takes two seconds, in which none answers."""
    monkeypatch.setattr("baozi.doctor.workers.ask", lambda *_: None)


def declare(url: str, arguments: Mapping[str, Any]) -> None:
    """Declare the app's queue, and its dead letters'."""
    with Connection(url) as connection:
        dead = Queue("work.dead", Exchange("work.dead", type="topic"), routing_key="#")
        exchange = Exchange("work", type="topic")
        work = Queue("work", exchange, routing_key="work", queue_arguments=dict(arguments))
        for queue in (dead, work):
            queue(connection.default_channel).declare()


def state(place: Place) -> Any:
    """What an administrator sees that a reader must not change."""
    asked = (f"{what}/{place.virtual_host}" for what in ("queues", "exchanges", "bindings", "policies"))
    keys = ("name", "arguments", "durable", "type", "source", "destination", "routing_key")
    return [
        sorted(json.dumps({key: it.get(key) for key in keys}) for it in place.node.api("GET", path))
        for path in asked
    ]


def ids(result: Examination) -> list[str]:
    return [it.rule.id for it in result.findings]


#: What the queue is made with, the policy over it, and what is found.
QUEUES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (QUORUM, {}, []),
    # The app declares a quorum queue.
    ({"x-dead-letter-exchange": "work.dead"}, {}, ["BZ103", "BZ205"]),
    ({"x-queue-type": "quorum", "x-delivery-limit": 5}, {}, ["BZ112"]),
    (QUORUM | {"x-dead-letter-exchange": "gone"}, {}, ["BZ112"]),
    (
        {"x-queue-type": "quorum", "x-delivery-limit": 5},
        {"dead-letter-exchange": "work.dead", "overflow": "reject-publish"},
        ["BZ114"],
    ),
    (
        {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"},
        {"dead-letter-exchange": "work.dead", "delivery-limit": 4},
        [],
    ),
    (QUORUM | {"x-overflow": "drop-head"}, {"max-length": 10}, ["BZ115"]),
]


@pytest.mark.parametrize(("arguments", "policy", "found"), QUEUES)
@pytest.mark.usefixtures("nobody_works")
def test_a_real_queue_with_its_policy_is_judged_and_stays_as_it_is(
    arguments: dict[str, Any],
    policy: dict[str, Any],
    found: list[str],
    private_place: Place,
    project: Project,
) -> None:
    place = private_place
    declare(place.url, arguments)
    if policy:
        body = {"pattern": "^work$", "definition": policy, "apply-to": "queues"}
        place.node.api("PUT", f"policies/{place.virtual_host}/p", body)
    before = state(place)
    assert ids(project.examine(management_url=place.node.management_url)) == found
    assert state(place) == before


def test_an_alarm_and_another_user_that_may_publish_are_seen(private_place: Place) -> None:
    place = private_place
    declare(place.url, QUORUM)
    other = place.node.make_user("doctor-other", place.virtual_host, "^$", "^work$", "^$")
    place.node.make_user("doctor-monitor", place.virtual_host, "^$", "^$", ".*")
    unseen: list[str] = []
    with place.node.memory_alarm():
        told = broker.ask(place.url, place.node.management_url, {"work"}, unseen)
    for name in ("doctor-other", "doctor-monitor"):
        place.node.api("DELETE", f"users/{name}")
    assert unseen == []
    assert "doctor-other" in told.writers
    assert "doctor-monitor" not in told.writers
    assert nodes(other)[0].user == "doctor-other"
    assert [it.rule.id for it in findings(Facts(broker=told))] == ["BZ204"]


def test_a_user_without_the_management_tag_gets_the_rest(private_place: Place) -> None:
    place = private_place
    url = place.node.make_user("doctor-plain", place.virtual_host, ".*", ".*", ".*")
    unseen: list[str] = []
    told = broker.ask(url, place.node.management_url, set(), unseen)
    with_login = place.node.management_url.replace(
        "//", "//{0.user}:{0.password}@".format(nodes(place.url)[0])
    )
    managed = broker.ask(url, with_login, set(), [])
    place.node.api("DELETE", "users/doctor-plain")
    assert told.version
    assert not told.managed
    assert unseen
    assert unseen[0].endswith("answers 401 Unauthorized")
    assert managed.managed


def test_a_worker_answers_and_nothing_is_left_or_taken(private_place: Place) -> None:
    place = private_place
    place.worker("cook")
    place.produce("r", "a", 3)
    before = state(place)
    done = place.run("doctor", "-A", "tasks", "--strict", "--json", "--management", place.node.management_url)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["findings"] == []
    # All was looked at: the broker, the worker and the ledger.
    assert result["not_looked_at"] == []
    after = state(place)
    # Celery's inspect broadcast has an exchange for the answers.
    assert [it for part in after for it in part if it not in str(before) and "pidbox" not in it] == []


def test_workers_with_different_settings_are_listed(private_place: Place, project: Project) -> None:
    place = private_place
    declare(place.url, QUORUM)
    for number, limit in enumerate((50, 40)):
        settings = SOUND.replace("task_time_limit = 50", f"task_time_limit = {limit}")
        other = Project(project.folder.parent / f"p{number}", place.url, settings=settings)
        command = ["celery", "-A", other.name, "worker", "-n", f"w{number}@%h", "-P", "solo"]
        place.process_group.start("worker", f"w{number}", command, {"PYTHONPATH": str(other.folder)})
    wait_until(lambda: queue_state(place.url, "work")[1] == 2, "two workers to consume", 60)

    told: dict[str, str] = {}

    def both_answered() -> bool:
        result = project.examine(management_url=place.node.management_url)
        told.clear()
        told.update({it.rule.id: it.evidence for it in result.findings})
        return "BZ203" in told

    # On a busy machine a worker may answer too late.
    wait_until(both_answered, "both workers to answer", 60)
    # Solo pools ignore the time limits, which is another rule's finding.
    assert set(told) == {"BZ133", "BZ203"}
    assert "task_time_limit" in told["BZ203"]


RELIABLE = """
from baozi import Reliable
from celery import Celery
app = Celery("guarded", broker="{url}", set_as_current=False)
reliable = Reliable(app, queue="guarded", ledger="sqlite:///guarded.sqlite3")
@reliable.task(name="guarded.charge", batch=10)
def charge(order: str) -> None:
    pass
"""


@pytest.mark.usefixtures("nobody_works")
def test_an_app_of_reliable_tasks_has_no_finding(
    private_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "guarded.py").write_text(RELIABLE.format(url=private_place.url))
    with Connection(private_place.url) as connection:
        Topology("guarded").declare(connection)
    monkeypatch.chdir(tmp_path)
    result = examine("guarded", management_url=private_place.node.management_url)
    assert (ids(result), result.exit_code(strict=True)) == ([], ExitCode.OK)


def test_of_a_shop_with_reliable_and_plain_tasks_the_plain_one_is_found(private_place: Place) -> None:
    its = Shop(private_place)
    arguments = ("-A", "tests.integration.shop", "--json", "--management", private_place.node.management_url)
    done = run(
        [sys.executable, "-m", "baozi", "doctor", *arguments],
        60,
        ROOT,
        {**os.environ, **private_place.environment(), **its.environment()},
    )
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == ExitCode.LOSS
    about = [it["evidence"] for it in found if it["severity"] == "loses"]
    assert about
    assert all("shop.plain" in it or it.startswith("celery: ") for it in about)
    assert "shop.charge" not in done.stdout


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections, and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


DOWN = "amqp://u:hidden@127.0.0.1:1//"


def test_a_broker_that_is_down_leaves_the_static_findings(tmp_path: Path) -> None:
    sound = Project(tmp_path / "p", DOWN).examine()
    assert (ids(sound), sound.exit_code(strict=True)) == ([], ExitCode.NO_BROKER)
    (away,) = sound.unseen
    assert away.startswith(
        "the broker and the workers. The broker at amqp://u:***@127.0.0.1:1// does not answer"
    )
    early = SOUND.replace("task_acks_late =", "task_track_started =")
    done = Project(tmp_path / "q", DOWN, settings=early).doctor()
    assert done.returncode == ExitCode.LOSS
    assert "BZ101  loses" in done.stdout
    assert "hidden" not in done.stdout + done.stderr


def test_a_broker_that_accepts_and_says_nothing_is_left_in_time(tmp_path: Path) -> None:
    with silent_server() as port:
        result = Project(tmp_path / "p", f"amqp://u:hidden@127.0.0.1:{port}//").examine()
    assert result.exit_code(strict=False) is ExitCode.NO_BROKER
    assert "does not answer" in result.unseen[0]


def test_a_wrong_password_is_reported_and_not_printed(private_place: Place, project: Project) -> None:
    node = nodes(private_place.url)[0]
    url = f"amqp://{node.user}:hidden@{node.host}:{node.port}/{private_place.virtual_host}"
    result = project.examine(broker_url=url)
    assert result.exit_code(strict=False) is ExitCode.NO_BROKER
    assert "refuses the user or the password" in result.unseen[0]
    assert "hidden" not in "".join(lines(result)) + str(as_json(result))


@pytest.mark.usefixtures("nobody_works")
def test_without_the_management_api_the_doctor_lists_what_it_could_not_examine(
    private_place: Place, project: Project
) -> None:
    declare(private_place.url, QUORUM)
    with silent_server() as port:
        pass
    result = project.examine(management_url=f"http://127.0.0.1:{port}")
    assert (ids(result), result.exit_code(strict=True)) == ([], ExitCode.OK)
    assert any("no management API at http://127.0.0.1" in it for it in result.unseen)


def test_a_result_backend_that_is_down_is_not_needed(private_place: Place, tmp_path: Path) -> None:
    declare(private_place.url, QUORUM)
    project = Project(tmp_path / "p", private_place.url, "redis://:hidden@127.0.0.1:1/0")
    result = project.examine(management_url=private_place.node.management_url)
    assert (ids(result), result.exit_code(strict=True)) == ([], ExitCode.OK)
    assert result.unseen == ["the workers: none answered within 2 s"]


def test_an_app_that_does_not_import_is_one_sentence(project: Project) -> None:
    (project.folder / f"{project.name}.py").write_text("raise ValueError('not today')")
    done = project.doctor()
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("not today.\n")


def test_a_variable_that_names_another_broker_is_found(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", "amqp://u:own-one@here//")
    done = project.doctor("--static", "--json", CELERY_BROKER_URL="amqp://u:hidden@elsewhere//")
    (found,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, found["id"]) == (ExitCode.LOSS, "BZ136")
    assert "amqp://u:***@elsewhere//" in found["evidence"]
    assert "hidden" not in done.stdout
    assert "own-one" not in done.stdout


@pytest.mark.parametrize("width", [60, 80])
def test_the_lines_fit_a_terminal(width: int, tmp_path: Path) -> None:
    told = lines(Project(tmp_path / "p", "amqp://", "rpc://", settings="").examine(live=False), width)
    copied = ("  write  ", "         ", "  see    ")  # these are copied, so they are not broken
    assert [line for line in told if len(line) > width and not line.startswith(copied)] == []
    severities = [line.split()[1] for line in told if line.startswith("BZ")]
    assert len(severities) > 5
    assert severities == sorted(severities, key=["loses:", "repeats:", "stops:", "slows:"].index)
    assert "Not looked at: the broker, the workers and the ledger: --static." in " ".join(
        line.strip() for line in told
    )
    assert any(line.startswith(f"{len(severities)} findings: ") for line in told)


def test_strict_makes_each_finding_count(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", DOWN, settings=SOUND + "broker_connection_max_retries = 100\n")
    result = project.examine(live=False)
    assert ids(result) == ["BZ125"]
    assert (result.exit_code(strict=False), result.exit_code(strict=True)) == (ExitCode.OK, ExitCode.LOSS)


def test_a_broker_without_an_app_is_examined_on_each_version(place: Place) -> None:
    declare(place.url, {"x-queue-type": "quorum", "x-delivery-limit": 5})
    result = examine(None, place.url, place.node.management_url)
    # No worker consumes, so no queue is judged.
    assert (ids(result), result.app, result.unseen) == ([], None, [])
    with Connection(place.url) as connection:
        consumer = connection.Consumer([Queue("work", no_declare=True)], callbacks=[lambda *_: None])
        with consumer:
            told = wait_until(
                lambda: ids(examine(None, place.url, place.node.management_url)),
                "the management API to know the consumer",
            )
    assert told == ["BZ112"]
