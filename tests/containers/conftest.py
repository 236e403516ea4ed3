"""What all tests in containers share: an engine, the passwords, and our image, built once."""

import fcntl
import os
import subprocess

import pytest

from tests.containers.compose import IMAGE, ROOT
from tests.requirements import need_engine


@pytest.fixture(scope="session", autouse=True)
def _image(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> None:
    """Our own image, built as docker-compose.yml says, by the first of the processes that run the tests."""
    need_engine()
    # The tests have volumes of their own, whatever volumes `make up` has left on this machine.
    elsewhere = {**os.environ, "COMPOSE_PROJECT_NAME": "baozi-tests"}
    subprocess.run(["deploy/secrets"], cwd=ROOT, env=elsewhere, check=True, timeout=30, capture_output=True)
    built = tmp_path_factory.getbasetemp().parent / f"image-{testrun_uid}"
    with built.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.stat().st_size:
            command = ["docker", "compose", "build", "--quiet", "topology"]
            done = subprocess.run(command, cwd=ROOT, timeout=600, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
            lock.write(IMAGE)
