"""Lines of processes that share an output stay whole, however Python buffers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINE = "小红吃了egon生产了第0个包子"
WRITER = f"from baozi.lines import say\nfor _ in range(20_000): say({LINE!r})"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_of_several_processes_do_not_mix(tmp_path: Path, unbuffered: str) -> None:
    shared = tmp_path / "out"
    with shared.open("wb") as out:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        command = [sys.executable, "-c", WRITER]
        writers = [subprocess.Popen(command, stdout=out, env=environment) for _ in range(4)]
        assert [writer.wait(60) for writer in writers] == [0] * 4
    assert shared.read_text().splitlines() == [LINE] * 80_000
