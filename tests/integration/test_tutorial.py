"""The tutorial, done: its programs and its commands, in the sequence in which they stand there."""

import os
import re
import sys
from pathlib import Path

import psutil
import pytest

from tests.running import bash

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_tutorial_is_short() -> None:
    assert len(PAGE.read_text().splitlines()) <= 120


@pytest.mark.timeout(300)
def test_the_tutorial_s_programs_and_commands_run_as_the_page_shows(tmp_path: Path) -> None:
    for program in blocks("python"):
        (tmp_path / program.partition("\n")[0].removeprefix("# ")).write_text(program)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BAOZI_", "CELERY_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    try:
        done = bash("".join(blocks("sh")), 200, tmp_path, environment)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        bash("baozi broker stop", 60, tmp_path, environment)
        here = str(tmp_path)
        left = [it for it in psutil.process_iter(["cwd"]) if (it.info["cwd"] or "").startswith(here)]
        _, alive = psutil.wait_procs(left, timeout=30)
        for process in alive:
            process.kill()
    said = done.stdout.splitlines()
    eaten = [f"ate baozi {number}" for number in range(5)]
    assert [line for line in said if line.startswith(("ate", "all"))] == 2 * [*eaten, "all eaten"]
    assert str([f"baozi {number}" for number in range(5)]) in said
    assert not alive
