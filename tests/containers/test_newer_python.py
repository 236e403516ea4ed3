"""The lessons of ``local_mp`` on the image's Python, which is newer than the oldest one that is supported."""

import json
import subprocess

import pytest

from tests.containers.compose import IMAGE
from tests.unit.test_local_mp_programs import CHECKS, lines_of

#: Runs the lessons of the first argument with the start method of the second, each in its own process, and
#: prints their outputs as JSON. Warnings are errors: what a release deprecates, a later one removes.
PROGRAM = """
import json, subprocess, sys
LESSON = '''
import multiprocessing, sys
from local_mp.lessons import LESSONS
multiprocessing.set_start_method(sys.argv[2])
LESSONS[sys.argv[1]].main(1 if sys.argv[1] == "tickets" else 0)
'''
for name in sys.argv[1].split():
    command = [sys.executable, "-W", "error", "-c", LESSON, name, sys.argv[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_each_lesson_prints_the_courses_lines_on_a_newer_python_with_every_start_method(method: str) -> None:
    # The image prints unbuffered, which mixes the lines of several processes. A reader's terminal does not.
    command = [
        "docker",
        "run",
        "--rm",
        "--init",
        "--env",
        "PYTHONUNBUFFERED=",
        IMAGE,
        "python",
        "-c",
        PROGRAM,
    ]
    done = subprocess.run(
        [*command, " ".join(CHECKS), method], capture_output=True, text=True, timeout=300, check=False
    )
    outputs = [json.loads(line) for line in lines_of(done)]
    for check, output in zip(CHECKS.values(), outputs, strict=True):
        check(lines_of(subprocess.CompletedProcess([], *output)))
