"""What the benchmarks count with: the tally, the targets, the file of results."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from baozi.errors import ExitCode, UsageError
from baozi.settings import settings
from benchmarks import page
from benchmarks.c_client import compiled
from benchmarks.command import app
from benchmarks.contenders import LENGTHS_MS, of_length
from benchmarks.databases import DatabaseServer
from benchmarks.measures import ContenderRow, Job, Measured, jobs, memory_jobs
from benchmarks.not_measured import NotMeasured
from benchmarks.results import BenchmarkResults, Gap, Measure, Turn
from benchmarks.table import measure_table, tables, targets_table
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


def turn(contender: str, value: float, measure: Measure = Measure.PUBLISH, number: int = 0) -> Turn:
    return Turn(
        measure=measure,
        contender=contender,
        settings="default settings",
        promises="",
        turn=number,
        value=value,
    )


def gap(contender: str, reason: str, measure: Measure = Measure.PUBLISH, *, failed: bool = False) -> Gap:
    return Gap(measure=measure, contender=contender, promises="", turn=0, reason=reason, failed=failed)


def results(*made: Turn | Gap, brokers: dict[str, str] | None = None) -> BenchmarkResults:
    return BenchmarkResults(
        machine=MACHINE,
        seed=1,
        began_at=0,
        took=60,
        brokers=brokers or {"private": "3.10.8"},
        turns=[it for it in made if isinstance(it, Turn)],
        gaps=[it for it in made if isinstance(it, Gap)],
    )


def compared(made: BenchmarkResults, what: str) -> tuple[str, ...]:
    return next(row for row in targets_table(made).rows if row[0] == what)


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


@pytest.mark.parametrize(("ours", "met"), [(14.98, False), (14.996, True), (15.0, True)])
def test_a_target_of_at_least_is_met_from_there_on_as_shown(ours: float, met: bool) -> None:
    target = RatioTarget("", Measure.PUBLISH, "ours", "theirs", at_least=15)
    ratio = target.ratio(results(turn("ours", ours), turn("theirs", 1)))
    assert ratio is not None
    assert target.met(ratio) is met


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (1.01, False)])
def test_a_target_of_at_most_is_met_up_to_there(ours: float, met: bool) -> None:
    target = RatioTarget("", Measure.LATENCY, "ours", "theirs", at_most=1)
    made = [turn("ours", ours, Measure.LATENCY), turn("theirs", 1, Measure.LATENCY)]
    ratio = target.ratio(results(*made))
    assert ratio is not None
    assert target.met(ratio) is met


def test_a_ratio_is_taken_turn_by_turn_and_only_of_turns_that_both_made() -> None:
    target = RatioTarget("", Measure.PUBLISH, "ours", "theirs", at_least=1)
    ours = [turn("ours", value, number=number) for number, value in enumerate((2, 40, 9, 1000))]
    theirs = [turn("theirs", value, number=number) for number, value in enumerate((2, 4, 3))]
    ratio = target.ratio(results(*ours, *theirs))
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (3, 1, 10)
    assert target.ratio(results(turn("ours", 1))) is None


def test_a_target_can_be_about_the_99th_percentile() -> None:
    target = next(it for it in TARGETS if it.p99)
    ours, theirs = (
        turn(name, 1, Measure.LATENCY).model_copy(update={"p99": p99})
        for name, p99 in zip(target.contenders, (0.006, 0.004), strict=True)
    )
    ratio = target.ratio(results(ours, theirs))
    assert ratio is not None
    assert ratio.median == pytest.approx(1.5)


def test_a_missed_target_is_shown_as_missed_and_one_without_a_measurement_says_why() -> None:
    made = results(turn("baozi", 5), turn("dramatiq", 10), gap("C client", "librabbitmq is not installed"))
    what = "confirmed publish / dramatiq unconfirmed"
    assert compared(made, what) == (what, "≥ 1 ×", "0.50 ×", "0.50 ×", "0.50 ×", "MISSED")
    assert compared(made, "confirmed publish / C client")[-1] == (
        "not measured: C client: librabbitmq is not installed"
    )
    assert compared(made, "confirmed publish / celery .delay(), confirmed")[-1] == (
        "not measured: not in this run: celery .delay(), confirmed"
    )


def test_the_targets_of_one_broker_are_not_compared_with_the_turns_of_another() -> None:
    there = turn("dramatiq", 1).model_copy(update={"on": "container"})
    made = results(turn("baozi", 5), there, brokers={"private": "3.10.8", "container": "4.3.0"})
    for broker, its in made.each_broker.items():
        assert compared(its, "confirmed publish / dramatiq unconfirmed")[2] == "–", broker


def test_a_contender_that_fails_or_cannot_be_measured_is_a_row_that_says_so() -> None:
    made = results(
        turn("baozi", 5),
        gap("baozi", "nothing was eaten", failed=True),
        gap("C client", "there is no C compiler"),
        gap("pika", "it ended", failed=True),
    )
    rows = {row[0]: row for row in measure_table(made, Measure.PUBLISH).rows}
    assert rows["baozi"][1:4] == ("5", "5", "5")
    assert rows["baozi"][-1] == "failed in 1 turns: nothing was eaten"
    assert rows["C client"][1:4] == ("–", "–", "–")
    assert rows["C client"][-1] == "not measured: there is no C compiler"
    assert rows["pika"][-1] == "failed: it ended"


def test_a_turn_that_fails_keeps_what_it_has_found_and_lets_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def do(_: object) -> Iterator[Measured]:
        yield Measured(1)
        raise OSError("the broker went away")

    def not_here(_: object) -> Iterator[Measured]:
        yield from ()
        raise NotMeasured("there is no PostgreSQL")

    rows = tuple(ContenderRow(Measure.MEMORY, name, "", "") for name in ("producer", "worker"))
    monkeypatch.setattr("benchmarks.measures.stand", lambda _: nullcontext())
    rig: Any = None
    first, second = Job(rows, do).turn(rig, "private", 0)
    assert isinstance(first, Turn)
    assert (first.contender, first.value) == ("producer", 1)
    assert isinstance(second, Gap)
    assert (second.contender, second.failed, second.reason) == ("worker", True, "the broker went away")
    for made in Job(rows, not_here).turn(rig, "private", 0):
        assert isinstance(made, Gap)
        assert (made.failed, made.reason) == (False, "there is no PostgreSQL")


def test_without_a_compiler_or_the_library_the_client_in_c_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match="no C compiler"):
        compiled(tmp_path)
    for name, code in (("cc", 0), ("pkg-config", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(NotMeasured, match="librabbitmq is not installed"):
        compiled(tmp_path)


def test_without_docker_and_a_url_postgresql_says_so_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def answers() -> bool:
        asked.append(1)
        return False

    monkeypatch.setattr("baozi.broker.engine.answers", answers)
    with DatabaseServer() as server:
        for _ in range(2):
            with pytest.raises(NotMeasured, match="Docker does not answer"), server.database():
                pass
    assert len(asked) == 1


def test_default_settings_are_the_first_rows_and_every_row_says_its_settings() -> None:
    every = [row for job in [*jobs(set(Measure)), *memory_jobs()] for row in job.rows]
    assert all(row.settings for row in every)
    assert len({(row.measure, row.name) for row in every}) == len(every)
    assert [row.settings for row in every[:2]] == ["default settings"] * 2


def test_every_target_names_contenders_that_there_are() -> None:
    every = [row for job in [*jobs(set(Measure)), *memory_jobs()] for row in job.rows]
    names = {(row.measure, row.name) for row in every}
    for target in TARGETS:
        assert {(target.measure, name) for name in target.contenders} <= names


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
    assert titles == ["RabbitMQ 3.10.8, publish: published a second", "RabbitMQ 3.10.8, targets"]


def test_the_page_says_what_was_measured_with_which_settings_and_which_targets_are_met() -> None:
    turns = [turn("baozi", value, number=number) for number, value in enumerate((30, 10, 20))]
    said = page.page(results(*turns, turn("dramatiq", 40)))
    assert "| baozi | 20 | 10 | 30 | default settings |" in said
    assert "| confirmed publish / dramatiq unconfirmed | ≥ 1 × | 0.75 × | 0.75 × | 0.75 × | MISSED |" in said
    assert "Measured on 1970-01-01 00:00:00 UTC by `make bench`" in said
    # There is no section about what was not measured.
    assert "## Latency" not in said
    assert "![publish](publish.svg)" in said


def test_the_command_renews_a_document_between_its_marks_and_draws_the_cost_by_task_length(
    tmp_path: Path,
) -> None:
    tasks = [
        turn(of_length(name, length), value, Measure.TASKS)
        for length in LENGTHS_MS
        for name, value in (("baozi, SQLite", 300), ("celery prefork", 100))
    ]
    made = results(*tasks).model_copy(update={"quick": True})
    document = tmp_path / "speed.md"
    document.write_text(f"# Speed\n\n{page.BEGIN}\nold\n{page.END}\n\nWritten by hand.\n")
    page.renew(made, document)
    said = document.read_text()
    assert said == f"# Speed\n\n{page.BEGIN}\n\n{page.summary(made)}\n\n{page.END}\n\nWritten by hand.\n"
    assert "| ≥ 1.5 × | 3.00 × | 3.00 × | 3.00 × | met |" in said
    assert "](speed/quick-task-length.svg)" in said
    picture = (tmp_path / "speed" / "quick-task-length.svg").read_text()
    assert "<svg" in picture
    assert BenchmarkResults.read(tmp_path / "speed" / "quick.json") == made
    page.renew(made, document)
    assert document.read_text() == said
    assert (tmp_path / "speed" / "quick-task-length.svg").read_text() == picture
    document.write_text("# Speed\n")
    with pytest.raises(UsageError, match="does not have the lines"):
        page.renew(made, document)


def test_the_documentation_s_pages_are_made_of_their_results() -> None:
    docs = Path(__file__).parents[2] / "docs"
    read = [BenchmarkResults.read(path) for path in (docs / "speed").glob("*.json")]
    assert read
    for made in read:
        assert (docs / "speed" / page.page_name(made)).read_text() == page.page(made)
    _, _, rest = (docs / "speed.md").read_text().partition(page.BEGIN)
    assert rest.partition(page.END)[0].strip() in {page.summary(made) for made in read}


@pytest.mark.parametrize(
    ("arguments", "variable", "message"),
    [
        (["--on", "cluster"], None, "There is no broker 'cluster'; there are private, container."),
        (["--turns", "2", "targets", "none"], None, "Write no option before the command targets: --turns."),
        (["--postgresql", "nonsense"], None, "The URL of --postgresql is not a database URL."),
        (["--postgresql", "sqlite:///a"], None, "The URL of --postgresql must begin with postgresql://."),
        ([], "BAOZI_TRAY", "Unset BAOZI_TRAY first: the benchmarks measure with the default settings."),
    ],
)
def test_wrong_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], variable: str | None, message: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    settings.cache_clear()
    try:
        done = CliRunner().invoke(
            app, [*arguments, *([] if "targets" in arguments else ["--out", str(tmp_path)])]
        )
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == message


def test_an_interrupted_run_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def no_broker(_: str) -> Iterator[Any]:
        yield SimpleNamespace(record=SimpleNamespace(version="3.10.8"))

    def first_turn_only(_job: Job, _rig: object, _on: str, number: int) -> list[Turn | Gap]:
        if number:
            raise KeyboardInterrupt
        return [turn("baozi", 5)]

    monkeypatch.setattr("benchmarks.command.temporary_broker", no_broker)
    monkeypatch.setattr(Job, "turn", first_turn_only)
    only = ["--on", "private", "--measure", "publish", "--contender", "baozi", "--turns", "2"]
    done = CliRunner().invoke(app, [*only, "--out", str(tmp_path)])
    assert done.exit_code == ExitCode.INTERRUPTED
    assert [it.value for it in BenchmarkResults.read(tmp_path / "results.json").turns] == [5]
