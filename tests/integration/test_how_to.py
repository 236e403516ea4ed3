"""Each page of docs/how-to does what it says: its app runs on a real worker, and so do its commands."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from baozi.settings import Settings
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.running import run
from tests.waiting import wait_until

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = sorted(it.name for it in FOLDER.glob("*.md"))
#: The page whose app is a test of its own: test_testing.py runs it.
TESTED = "test-under-faults.md"

#: The pages with an app: how often each of its tasks is recorded, how many messages become dead letters, and
#: texts of their reasons.
OUTCOMES = {
    "own-task.md": (
        {"shop.mail": 1},
        ["an order without an amount", "shop.mail: order.amount is missing"],
    ),
    "own-transaction.md": ({"shop.charge": 1}, []),
    "retries.md": ({}, ["URLError", "this is no order's id"]),
    "batches.md": ({"shop.count": 300, "shop.count_all": 300}, []),
    "orders.md": ({"shop.charge": 100}, []),
}


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of a page; those that are in a list are indented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", (FOLDER / page).read_text(), re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def test_each_page_with_an_app_has_its_outcome_here() -> None:
    assert {page for page in PAGES if blocks(page, "python")} == OUTCOMES.keys() | {TESTED}


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_short(page: str) -> None:
    assert len((FOLDER / page).read_text().splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES)
def test_each_variable_of_a_page_is_a_setting(page: str) -> None:
    named = set(re.findall(r"\bBAOZI_(\w+)", (FOLDER / page).read_text()))
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", sorted(OUTCOMES))
def test_the_app_of_each_page_does_what_the_page_says(private_place: Place, page: str) -> None:
    home = private_place.home
    parts = blocks(page, "python")
    (use,) = (part for part in parts if "from shop import" in part)
    (home / "shop.py").write_text("\n\n".join(part for part in parts if part != use))
    environment = _start_worker(private_place)
    done = _run(private_place, ["-c", use], environment)
    assert (done.returncode, done.stderr) == (0, "")
    recorded, reasons = OUTCOMES[page]
    wait_until(lambda: _recorded(home) == recorded, f"{recorded} to be recorded", timeout=60)

    def all_dead() -> bool:
        return queue_state(private_place.url, "shop.dead")[0] == len(reasons)

    wait_until(all_dead, f"{len(reasons)} dead letters", timeout=90)
    listed = _run(private_place, ["-m", "baozi", "dead", "list"], environment).stdout
    for reason in reasons:
        assert reason in listed
    (log,) = private_place.process_group.logs.glob("*.log")
    if page == "batches.md":
        sizes = [int(it) for it in re.findall(r"Executed (\d+) messages in a batch", log.read_text())]
        assert max(sizes) > 1  # how many arrive at once depends on how fast they are put
    _run_commands(private_place, page, environment)
    if page == "retries.md":
        # Three attempts and one; then each was replayed, and had all its attempts again.
        wait_until(
            lambda: len(re.findall(r"\] received", log.read_text())) == 8, "eight deliveries", timeout=60
        )
        wait_until(all_dead, "both to be dead letters again", timeout=60)


@pytest.mark.parametrize("page", sorted(set(PAGES) - OUTCOMES.keys() - {TESTED}))
def test_the_commands_of_each_page_without_an_app_run(private_place: Place, page: str) -> None:
    (private_place.home / "shop.py").write_text(blocks("own-task.md", "python")[0])
    _run_commands(private_place, page, _start_worker(private_place))


def _start_worker(place: Place) -> dict[str, str]:
    """Start the worker of the page's app; return the environment of it and of the page's commands."""
    environment = {
        # The apps name a broker in their code. Celery's own variable comes first.
        "CELERY_BROKER_URL": place.url,
        "BAOZI_BROKER_URL": place.url,
        "BAOZI_QUEUE": "shop",
        "BAOZI_LEDGER_URL": "sqlite:///shop.sqlite3",
        "PYTHONPATH": str(place.home),
    }
    arguments = ["celery", "-A", "shop", "worker", "-l", "INFO", "-n", "clerk@%h", "-c", "1"]
    place.process_group.start("worker", "clerk", arguments, environment, place.home)
    wait_until(lambda: queue_state(place.url, "shop")[1], "the worker to consume", timeout=60)
    return environment


def _run(place: Place, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, *arguments], 60, place.home, {**os.environ, **environment})


def _recorded(home: Path) -> Counter[str]:
    """How many executions of each task the ledger has."""
    engine = create_engine(f"sqlite:///{home / 'shop.sqlite3'}")
    with engine.connect() as connection:
        tasks = Counter(connection.execute(text("SELECT task FROM done")).scalars())
    engine.dispose()
    return tasks


def _run_commands(place: Place, page: str, environment: dict[str, str]) -> None:
    """Run the page's commands of the library as they stand there. Its `export` lines are the environment."""
    for line in "".join(blocks(page, "sh")).splitlines():
        if line.startswith("export "):
            assert line.removeprefix("export ").partition("=")[0] in environment
            continue
        done = _run(place, ["-m", *line.split()], environment)
        assert done.returncode == 0, f"{line}: {done.stderr}"
