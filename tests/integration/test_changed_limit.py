"""The steps of `docs/how-to/upgrade.md` that change the delivery limit, as they stand there."""

import json
import re
from pathlib import Path

from baozi.errors import ExitCode
from side_by_side.celery_processes import start_worker
from tests.integration.place import Place
from tests.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "upgrade.md"


def ready(place: Place) -> int:
    told = json.loads(place.run("status", "--json", "--letters", "0").stdout)
    return int(told["broker"]["facts"]["queues"][0]["ready"])


def test_the_delivery_limit_is_changed_without_a_loss(private_place: Place) -> None:
    place = private_place
    place.worker("before")
    place.produce("lunch", "alex", 5)
    assert place.run("audit", "lunch", "--wait", "60").returncode == 0
    for started in place.process_group.processes:
        started.process.terminate()
        started.process.wait(60)
    wait_until(lambda: place.consumers() == 0, "the worker to be gone", timeout=60)
    assert ready(place) == 0
    # What the page is about: with another limit no worker works.
    changed = place.environment(delivery_limit=5)
    refused = start_worker(place.process_group, "refused", changed)
    assert refused.process.wait(60) == ExitCode.NO_BROKER
    assert "exists with other arguments" in refused.log.read_text()
    (command,) = re.findall(r"`rabbitmqctl (delete_queue --vhost / shop)`", PAGE.read_text())
    place.node.control(*command.replace(" / ", f" {place.virtual_host} ").replace("shop", "baozi").split())
    place.worker("after", delivery_limit=5)
    place.produce("dinner", "alex", 5, delivery_limit=5)
    for run in ("lunch", "dinner"):
        assert place.run("audit", run, "--wait", "60", delivery_limit=5).returncode == 0
