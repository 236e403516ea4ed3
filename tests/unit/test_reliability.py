"""The page of what was measured of faults: made of results files alone."""

from pathlib import Path

import pytest

from baozi.errors import UsageError
from side_by_side.chaos import ChaosCounts, ChaosResults, InjectedFault
from side_by_side.chaos_environment import ChaosConfiguration
from side_by_side.reliability import PAGE, page, page_of
from side_by_side.results import Machine
from tests.unit.sample_results import sample_results

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reliability"
MACHINE = Machine(
    system="Linux", processor="any", cores=2, memory=2**31, python="3.11.0", versions={"rabbitmq": "4.3.0"}
)


def chaos(transport: str, lost: int, *waits: float) -> ChaosResults:
    steps = [
        InjectedFault(fault="kill-worker", whom="小明", killed="worker", at=1, recovered_after=it)
        for it in waits
    ]
    sums = ChaosCounts(
        accepted=1000,
        eaten=1000 - lost,
        lost=lost,
        recovered=0,
        unexpected=0,
        eaten_twice=0,
        deliveries=1002,
        most_deliveries=1010,
        dead=0,
    )
    return ChaosResults(
        made_at=0,
        machine=MACHINE,
        on="private",
        transport=transport,
        seed=7,
        seconds=60,
        configuration=ChaosConfiguration(),
        steps=steps,
        sums=sums,
    )


def row(text: str, begins: str) -> list[str]:
    (line,) = [it for it in text.splitlines() if it.startswith(f"| {begins} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_fault_has_its_tries_its_losses_and_its_worst_time() -> None:
    text = page([], [chaos("celery", 0, 0.5, 2.0), chaos("celery-trays", 1, 0.25)])
    assert row(text, "kill-worker")[2:] == ["2", "1", "1", "0", "2 s"]
    # What was not tried is not in it.
    assert "kill-broker" not in text
    assert row(text, "celery, private")[-1] == "sound"
    assert row(text, "celery-trays, private")[-1] == "**not sound**"


def test_each_transport_has_the_worst_verdict_of_its_tries_and_what_was_lost() -> None:
    text = page([sample_results()], [])
    rows = [line for line in text.splitlines() if line.startswith("| joinable-queue | kill-producer |")]
    assert len(rows) == 1
    assert "| wedged |" in rows[0]


def test_the_error_names_a_file_that_has_no_results(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"x\.json cannot be read"):
        page_of(tmp_path)


def test_the_documentation_s_page_is_made_of_its_results() -> None:
    assert (DOCUMENTED / PAGE).read_text() == page_of(DOCUMENTED)
