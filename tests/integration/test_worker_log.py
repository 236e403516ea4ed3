"""What the log file of a worker in the background says of its work."""

import re
from pathlib import Path

from side_by_side.celery_processes import start_worker
from tests.integration.place import Place
from tests.waiting import wait_until

RECORDED = re.compile(r"INFO.*小明: (\d+) tasks\.eat recorded \(run lunch: (\d+)\)$", re.MULTILINE)


def test_a_log_file_has_a_line_for_each_batch_and_not_for_each_baozi(
    private_place: Place, tmp_path: Path
) -> None:
    # First the messages, so that they come in whole batches.
    private_place.produce("lunch", "老王", 250)
    log = tmp_path / "worker.log"
    start_worker(
        private_place.process_group,
        "小明",
        private_place.environment(tray=100),
        changes=[f"--logfile={log}", "--loglevel=WARNING"],
    )
    wait_until(lambda: private_place.eaten("lunch") == 250, "all to be eaten", timeout=60)
    wait_until(lambda: sum(counts(log)) == 250, "the log to tell of all")
    assert len(counts(log)) < 25
    times = re.findall(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", log.read_text(), re.MULTILINE)
    assert len(times) >= len(counts(log))


def counts(log: Path) -> list[int]:
    """How many each line tells of."""
    found = RECORDED.findall(log.read_text())
    assert all(count == of_run for count, of_run in found)
    return [int(count) for count, _ in found]
