"""After a fork each process has connections of its own, and what was in flight stays the parent's."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from tests.integration.forking import EACH, FORKS, WAYS
from tests.integration.place import Place

ROOT = Path(__file__).parents[2]


def queued(place: Place) -> Counter[str]:
    """Each baozi in the queue, with how many copies of it there are."""
    found: Counter[str] = Counter()
    with Connection(place.url, connect_timeout=5) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get("baozi", no_ack=True)) is not None:
            item = json.loads(message.body)[0][0]
            found[f"{item['producer']}/{item.get('number', 'order')}"] += 1
    return found


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("way", WAYS)
def test_parent_and_children_put_each_over_its_own_connection(
    way: str, fork: str, private_place: Place
) -> None:
    private_place.produce("before", "alex", 1)  # the queue is there for who declares nothing
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.forking", way, fork],
        env={**os.environ, **private_place.environment(broker_timeout=10)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = {f"parent/{number}": 1 for number in range(3 + EACH)}
    if way != "abandoned":
        wanted |= {f"{child}/{number}": 1 for child in ("one", "two") for number in range(EACH + 1)}
    assert queued(private_place) == Counter({"alex/0": 1, "alex/order": 1, **wanted})
    assert "Traceback" not in done.stderr
