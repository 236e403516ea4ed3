"""The side by side across hosts: one makes, two others eat, and the report says who ate what."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from side_by_side.comparison_results import ComparisonResults, Verdict
from side_by_side.report import write_report
from tests.containers.compose import Project

FILES = "docker-compose.yml:docker-compose.compare.yml"


@pytest.fixture(scope="module")
def gathered() -> Iterator[ComparisonResults]:
    """Both transports' work on hosts of their own, gathered."""
    project = Project(f"baozi-compare-{os.getpid()}", {"COMPOSE_FILE": FILES})
    try:
        done = project.compose("run", "--rm", "-T", "gather", "--json", timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        yield ComparisonResults.model_validate_json(done.stdout)
    finally:
        project.remove()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", ["celery", "manager-queue"])
def test_two_hosts_eat_what_a_third_makes_and_nothing_is_lost(
    gathered: ComparisonResults, transport: str
) -> None:
    (run,) = (run for run in gathered.runs if run.transport == transport)
    assert run.verdict is Verdict.SOUND
    assert (run.counts.accepted, run.counts.eaten, run.counts.lost) == (30, 30, 0)
    assert run.eaten_by.keys() == {"小明@consumers-1", "小红@consumers-2"}
    assert sum(run.eaten_by.values()) == 30


@pytest.mark.timeout(900)
def test_the_report_says_which_machine_ate_what(gathered: ComparisonResults, tmp_path: Path) -> None:
    write_report(gathered, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for run in gathered.runs:
        for who, eaten in run.eaten_by.items():
            assert f"{who.replace('@', ' on ')} {eaten}" in page
