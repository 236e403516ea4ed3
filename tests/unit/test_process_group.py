import signal

import psutil
import pytest

from baozi import process_group
from baozi.process_group import ProcessGroup
from tests.waiting import wait_until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(600)
"""


def test_a_signal_while_the_group_is_stopped_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Longer than any test may take: without the signal this would hang.
    monkeypatch.setattr(process_group, "STOP_TIMEOUT", 3600)
    folder = tmp_path_factory.mktemp("group")
    (folder / "stubborn.py").write_text(STUBBORN)
    with (folder / "out").open("w") as out:
        group = ProcessGroup(folder / "logs", out)
        process = group.start("worker", "w", ["stubborn"], {"PYTHONPATH": str(folder)}, folder).process
        assert group.running == ["worker w"]
        wait_until((folder / "out").read_text, "the process to ignore SIGTERM")
        group.stop(signals=[signal.SIGINT])
    assert not psutil.pid_exists(process.pid)
    assert group.running == []
