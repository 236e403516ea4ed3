import signal

import psutil
import pytest

from side_by_side import crew as crew_module
from side_by_side.crew import Crew
from tests.waiting import wait_until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(600)
"""


def test_a_signal_while_the_crew_is_stopped_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Longer than any test may take: without the signal this would hang.
    monkeypatch.setattr(crew_module, "STOP_TIMEOUT", 3600)
    folder = tmp_path_factory.mktemp("crew")
    (folder / "stubborn.py").write_text(STUBBORN)
    with (folder / "out").open("w") as out:
        crew = Crew(folder / "logs", out)
        process = crew.start("worker", "w", ["stubborn"], {"PYTHONPATH": str(folder)}, folder).process
        assert crew.running == ["worker w"]
        wait_until((folder / "out").read_text, "the process to ignore SIGTERM")
        crew.stop(heard=[signal.SIGINT])
    assert not psutil.pid_exists(process.pid)
    assert crew.running == []
