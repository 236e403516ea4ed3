"""`deploy/set-up`, with steps of the test's own: what it says, and how it is stopped."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.running import run
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
MAKE_PIP = """#!/bin/bash
mkdir -p "$2/bin"
printf '#!/bin/bash\\n%s\\n' '{pip}' >"$2/bin/pip"
chmod +x "$2/bin/pip"
"""
HANG = "#!/bin/bash\ntrap '' TERM\necho $$ >pid\nwhile :; do sleep 0.1; done\n"
COMMAND = ["deploy/set-up", sys.executable, ".venv"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "set-up", tmp_path / "deploy")
    (tmp_path / "requirements-dev.lock").write_text("# a comment\na==1 \\\n    --hash=sha256:0\nb==2\n")
    return tmp_path


def with_step(project: Path, script: str) -> None:
    path = project / "deploy" / "virtual-environment"
    path.write_text(script)
    path.chmod(0o755)


def test_it_says_each_step_and_how_far_pip_is(project: Path) -> None:
    with_step(
        project, MAKE_PIP.format(pip="echo Collecting a; echo Installing collected packages: a; sleep 1")
    )
    done = run(COMMAND, timeout=60, folder=project)
    assert (done.returncode, done.stdout) == (0, "")
    steps = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert list(dict.fromkeys(steps)) == [f"Set-up {number} of 3" for number in (1, 2, 3)]
    assert "writing 2 packages to .venv" in done.stderr


def test_a_step_that_fails_prints_the_command_s_output(project: Path) -> None:
    with_step(project, MAKE_PIP.format(pip="echo No space left on device; exit 1"))
    done = run(COMMAND, timeout=60, folder=project)
    assert done.returncode == 2
    assert done.stderr.endswith("No space left on device\nThe set-up failed.\n")


def test_an_interrupt_says_what_is_awaited_and_a_second_one_kills(project: Path) -> None:
    with_step(project, HANG)
    with subprocess.Popen(
        COMMAND, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: (project / "pid").exists() and (project / "pid").read_text(), "the step to begin")
        awaited = psutil.Process(int((project / "pid").read_text()))
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        said = ""
        while "Stopping …" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert "Press Ctrl-C again to end at once." in said
    wait_until(lambda: not awaited.is_running(), "the step's process to be gone", timeout=10)
