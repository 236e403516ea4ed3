"""A queue, an exchange or a permission is removed while a producer and a worker use it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.place import QUEUE_IS_GONE, Place
from tests.waiting import wait_until

#: What a worker needs besides the queue, as in docker-compose.yml.
CELERYS_OWN = r"celeryev(\..+)?|(.+\.)?(reply\.)?celery\.pidbox|celery_delayed_.+"


def last_line(log: Path) -> str:
    """The last line that is not from a logger: py-amqp warns of what comes while it closes a channel."""
    return [line for line in log.read_text().strip().splitlines() if not line.startswith("[")][-1]


def at_work(place: Place, count: int, **settings: object) -> "subprocess.Popen[str]":
    """A producer in the midst of its order, and what it put being eaten."""
    order = ["--run", "r", "--name", "egon", "--count", str(count), "--interval", "0.02", "--json"]
    producer = place.popen("produce", *order, **settings)
    wait_until(lambda: place.eaten("r") > 3, "the producer and the worker to be at work")
    return producer


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (None, "the user may not enter it"),
        ({"configure": ".*", "write": "^(?!baozi$).*", "read": "^(?!baozi$).*"}, "does not permit this"),
    ],
    ids=["all", "the queue's and the exchange's"],
)
def test_revoked_permissions_end_worker_and_producer_with_an_error_and_lose_nothing(
    private_place: Place, left: dict[str, str] | None, says: str
) -> None:
    place, user = private_place, f"mortal-{private_place.virtual_host}"
    url = place.node.make_user(user, place.virtual_host, ".*", ".*", ".*")
    worker = place.worker("小明", broker_url=url)
    producer = at_work(place, 300, broker_url=url)
    place.node.api("DELETE" if left is None else "PUT", f"permissions/{place.virtual_host}/{user}", left)
    # RabbitMQ asks again when a channel is opened anew.
    place.node.close_connections(place.virtual_host)
    assert worker.process.wait(75) == 3
    assert says in last_line(worker.log)
    out, complaint = producer.communicate(timeout=30)
    assert producer.returncode == 3
    assert says in complaint
    assert 3 < json.loads(out)["accepted"] < 300

    place.produce("r", "egon", 300, "--resume")
    place.worker("小红")
    wait_until(lambda: (sums := place.sums("r")) and sums.proven, "all that was accepted to be eaten")


def test_a_deleted_queue_is_declared_again_and_its_messages_are_counted_as_lost(place: Place) -> None:
    worker = place.worker("小明", eat_seconds=0.2)
    producer = at_work(place, 0)
    # Frozen meanwhile: at work it would declare the queue again before the producer's next put.
    worker.process.suspend()
    place.node.api("DELETE", f"queues/{place.virtual_host}/baozi")
    out, complaint = producer.communicate(timeout=30)
    worker.process.resume()
    assert producer.returncode == 5, complaint
    assert complaint.startswith(QUEUE_IS_GONE)
    wait_until(lambda: place.consumers() == 1, "the worker to declare the queue and to consume again")
    accepted = json.loads(out)["accepted"]
    place.produce("r", "egon", accepted + 1, "--resume")
    audited = place.run("audit", "r", "--wait", "10", "--json")
    total = json.loads(audited.stdout)["total"]
    assert audited.returncode == 1
    assert total["eaten"] + total["lost"] == total["accepted"] == accepted + 1
    assert total["lost"] > 0
    assert worker.process.is_running()


def test_a_worker_without_permission_to_declare_a_missing_queue_fails_by_the_deadline(
    private_place: Place,
) -> None:
    place = private_place
    rights = {"configure": f"^({CELERYS_OWN})$", "write": ".*", "read": ".*"}
    url = place.node.make_user(f"lowly-{place.virtual_host}", place.virtual_host, **rights)
    place.produce("r", "egon", 1)
    worker = place.worker("小明", broker_url=url, broker_timeout=2)
    wait_until(lambda: place.eaten("r") == 1, "the worker to be at work")
    place.node.api("DELETE", f"queues/{place.virtual_host}/baozi")
    assert worker.process.wait(30) == 5
    assert last_line(worker.log).startswith("The broker has no such exchange or queue")


def test_a_missing_exchange_is_an_error_and_the_next_connection_declares_it(
    private_place: Place,
) -> None:
    place = private_place
    place.worker("小明")
    producer = at_work(place, 300)
    place.node.api("DELETE", f"exchanges/{place.virtual_host}/baozi")
    out, complaint = producer.communicate(timeout=30)
    assert producer.returncode == 5
    assert complaint.startswith("The broker has no such exchange or queue")
    assert json.loads(out)["accepted"] < 300
    place.produce("r", "egon", 300, "--resume")
    wait_until(lambda: (sums := place.sums("r")) and sums.proven, "all that was accepted to be eaten")
