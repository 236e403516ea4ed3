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


SAY_AND_GO_ON = f"""
import sys
from baozi.lines import best_effort, say
say({LINE!r})
print({LINE!r}, file=best_effort(sys.stdout), flush=True)
say("b" * 200_000)
print("went on", file=sys.stderr)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("output", ["/dev/full", "closed", "no reader", "nobody reads, without blocking"])
def test_an_output_that_takes_nothing_is_no_error(output: str, unbuffered: str) -> None:
    program = [sys.executable, "-c", SAY_AND_GO_ON]
    reading, writing = os.pipe()
    if output == "closed":
        program = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    elif output == "/dev/full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), writing)
    elif output == "no reader":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
    done = subprocess.run(
        program,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    if output != "no reader":
        os.close(reading)
    assert done.stderr == "went on\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "gbk", "utf-16", "cp1252:ignore"])
def test_a_line_is_written_in_every_encoding(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    program = [sys.executable, "-c", f"from baozi.lines import say; say({LINE!r}); say('ready')"]
    done = subprocess.run(program, env=environment, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    shown = done.stdout.decode(encoding.partition(":")[0])
    assert "ready" in shown
    assert "egon" in shown
