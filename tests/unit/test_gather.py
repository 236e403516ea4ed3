"""The sums of work across machines, from journals as the machines leave them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import UsageError
from baozi.journal import Event, Journal
from baozi.workload import Workload
from side_by_side.comparison_results import RunKind, Verdict
from side_by_side.gather import gather


def write(folder: Path, machine: str, name: str, events: list[tuple[Event, int]]) -> None:
    with Journal(folder / "celery" / machine / "any" / f"{name}.journal") as journal:
        for event, number in events:
            journal.write(event, f"r/alex/{number}")


def two_machines(folder: Path, *, eaten: int) -> None:
    puts = [(event, number) for number in range(3) for event in (Event.ATTEMPTED, Event.ACCEPTED)]
    write(folder, "producers", "alex", puts)
    # The same name on two machines is two.
    write(folder, "consumers-1", "小明", [(Event.EATEN, 0)])
    write(folder, "consumers-2", "小明", [(Event.EATEN, number) for number in range(1, eaten)])


def test_the_report_lists_the_eaten_baozi_by_machine(tmp_path: Path) -> None:
    two_machines(tmp_path, eaten=3)
    (run,) = gather(tmp_path, Workload()).runs
    assert run.eaten_by == {"小明@consumers-1": 1, "小明@consumers-2": 2}
    assert (run.transport, run.measure, run.verdict) == ("celery", RunKind.ACROSS_MACHINES, Verdict.SOUND)


@pytest.mark.slow
def test_what_is_lost_on_the_way_makes_the_command_fail(tmp_path: Path) -> None:
    two_machines(tmp_path, eaten=2)
    command = [
        sys.executable,
        "-m",
        "baozi",
        "gather",
        str(tmp_path),
        "--json",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["verdict"], run["counts"]["lost"]) == ("lost", 1)
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("layout", ["none", "empty", "celery/producers/empty", "teleport/producers/empty"])
def test_a_folder_without_journals_of_ours_is_one_sentence(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / layout.partition("/")[0] if layout == "none" else tmp_path
    if layout != "none":
        (tmp_path / layout).mkdir(parents=True)
    with pytest.raises(UsageError) as refused:
        gather(folder, Workload())
    assert str(refused.value).count("\n") == 0
    if layout.startswith("teleport"):
        assert "'teleport'; there are file-lock" in str(refused.value)
