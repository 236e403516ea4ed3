"""What the benchmarks count with: the tally, the targets, the file of results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.errors import UsageError
from benchmarks.page import page
from benchmarks.results import BenchmarkResults, Measure, Turn
from benchmarks.table import tables
from benchmarks.tally import new_tally, read_tally
from benchmarks.targets import TARGETS, RatioTarget
from side_by_side.results import Machine

EATER = """
import threading
from benchmarks.tally import eaten
together = threading.Barrier(3, timeout=20)
def eat():
    eaten(0)
    together.wait()
    for number in range(1000): eaten(2, 0.25 if number == 7 else None)
threads = [threading.Thread(target=eat) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
MACHINE = Machine(
    system="Linux", processor="any", cores=2, memory=2**30, python="3.11.0", versions={"celery": "5.7.0"}
)


def turn(contender: str, value: float, measure: Measure = Measure.PUBLISH) -> Turn:
    return Turn(measure=measure, contender=contender, promises="", turn=0, value=value)


def results(*turns: Turn) -> BenchmarkResults:
    return BenchmarkResults(machine=MACHINE, seed=1, began_at=0, took=1, turns=list(turns))


def test_the_tally_is_exact_over_threads_and_processes(tmp_path: Path) -> None:
    new_tally(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", EATER]
    eaters = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(3)]
    assert [eater.wait(60) for eater in eaters] == [0, 0, 0]
    count, waits = read_tally(tmp_path)
    assert (count, waits) == (3 * 3 * 2000, [0.25] * 9)


def test_a_wait_is_kept_with_the_tally(tmp_path: Path) -> None:
    new_tally(tmp_path)
    code = "from benchmarks.tally import eaten\neaten(1, 0.25); eaten(1, 0.5)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert read_tally(tmp_path) == (2, [0.25, 0.5])


@pytest.mark.parametrize(("ours", "met"), [(14.9, False), (15.0, True)])
def test_a_target_of_at_least_is_met_from_there_on(ours: float, met: bool) -> None:
    target = RatioTarget("", Measure.PUBLISH, "ours", "theirs", at_least=15)
    ratio = target.ratio(results(turn("ours", ours), turn("theirs", 1)))
    assert ratio == ours
    assert target.met(ratio) is met


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (1.01, False)])
def test_a_target_of_at_most_is_met_up_to_there(ours: float, met: bool) -> None:
    target = RatioTarget("", Measure.LATENCY, "ours", "theirs", at_most=1)
    made = [turn("ours", ours, Measure.LATENCY), turn("theirs", 1, Measure.LATENCY)]
    ratio = target.ratio(results(*made))
    assert ratio is not None
    assert target.met(ratio) is met


def test_a_ratio_is_of_the_medians_and_of_nothing_that_was_not_measured() -> None:
    target = RatioTarget("", Measure.PUBLISH, "ours", "theirs", at_least=1)
    made = results(turn("ours", 1), turn("ours", 100), turn("ours", 4), turn("theirs", 2))
    assert target.ratio(made) == 2
    assert target.ratio(results(turn("ours", 1))) is None


def test_every_target_names_contenders_that_there_are() -> None:
    from benchmarks.measures import jobs, memory_jobs  # noqa: PLC0415  # its imports are slow

    names = {(job.measure, job.name) for job in [*jobs(set(Measure)), *memory_jobs()]}
    for target in TARGETS:
        named = {target.ours, target.theirs or target.ours}
        assert {(target.measure, name) for name in named} <= names


def test_results_are_read_as_they_were_written_and_nothing_else_is(tmp_path: Path) -> None:
    made = results(turn("ours", 1))
    path = tmp_path / "results.json"
    path.write_text(made.model_dump_json())
    assert BenchmarkResults.read(path) == made
    path.write_text(made.model_dump_json()[:-5])
    with pytest.raises(UsageError, match="is not the results"):
        BenchmarkResults.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        BenchmarkResults.read(tmp_path / "none")


def test_the_tables_leave_out_what_was_not_measured() -> None:
    titles = [table.title for table in tables(results(turn("baozi", 1)))]
    assert titles == ["publish: published a second", "targets"]


def test_the_page_says_what_was_measured_and_which_targets_are_met() -> None:
    made = results(turn("baozi", 30), turn("baozi", 10), turn("baozi", 20), turn("dramatiq", 40))
    said = page(made)
    assert "| baozi | 20 | 10 | 30 |" in said
    assert "| confirmed publish / dramatiq unconfirmed | ≥ 1 × | 0.50 × | not met |" in said
    # Of what was not measured, nothing is said.
    assert "latency" not in said.lower()
    assert "![publish](publish.svg)" in said


def test_the_documentation_s_page_is_made_of_its_results() -> None:
    folder = Path(__file__).parents[2] / "docs" / "speed"
    assert (folder / "measured.md").read_text() == page(BenchmarkResults.read(folder / "results.json"))
