"""`baozi prove --danger` on a real broker: dangers that take few seconds to show, and its end by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from baozi.broker.processes import MARK
from tests.running import run
from tests.waiting import wait_until

#: Seconds that one command may take. On two quiet cores it takes 25.
_LONGEST = 300
# The first test waits for the command.
pytestmark = pytest.mark.timeout(_LONGEST + 50)
COMMAND = [sys.executable, "-m", "baozi", "prove", "--danger"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What one command recorded of each danger. Its broker is one of its own."""
    folder = tmp_path_factory.mktemp("dangers")
    done = run([*COMMAND, "BZ104,BZ108,BZ135", "--on", "private", "--out", "out", "--json"], _LONGEST, folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert json.loads((folder / "out" / "results.json").read_text()) == found
    assert (folder / "out" / "BZ104" / "1" / "danger" / "app" / "shop.py").exists()
    return {it["rule"]: it for it in found["tries"]}


@pytest.mark.parametrize("rule", ["BZ104", "BZ108", "BZ135"])
def test_each_call_is_hit_by_the_danger_and_none_with_the_fix(shown: Mapping[str, Any], rule: str) -> None:
    one = shown[rule]
    assert (one["with_danger"], one["with_fix"], one["problem"]) == (5, 0, "")
    assert one["complete"]


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    # A mark of this test, which all processes inherit; the broker's own mark is another.
    environment = {**os.environ, "PROVE_TEST": "danger"}
    with subprocess.Popen(
        [*COMMAND, "BZ101", "--on", "private", "--out", "out"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        wait_until(lambda: [*tmp_path.glob("out/**/worker-1.log")], "a worker", 120)
        ours = psutil.Process(process.pid).children(recursive=True)
        marks = {mark for it in ours if (mark := it.environ().get(MARK))}
        assert marks
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [it for it in psutil.process_iter(["environ"]) if _belongs(it, marks)]


def _belongs(process: psutil.Process, marks: set[str]) -> bool:
    environment = process.info["environ"] or {}
    return environment.get("PROVE_TEST") == "danger" or environment.get(MARK) in marks
