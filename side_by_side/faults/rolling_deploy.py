"""A rolling deployment: workers of an earlier release and of this one eat from the same queue."""

import os
import shutil
import signal
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from baozi.errors import DeadlinePassed
from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault

#: The commit that stands for the release before this one: its workers had no trays yet.
LAST_RELEASE = "33b46723def3d73f32483d42d9bc05217872f1b6"
_ROOT = Path(__file__).parents[2]
#: Python 3.11.4 and later can refuse files outside the folder (PEP 706). The archive has none.
_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
#: Seconds for git; for the worker to eat.
_GIT, _EATS = 30, 60


def _missing() -> str | None:
    """Return what is missing to run a worker of the last release; None if nothing is."""
    if shutil.which("git") is not None and _git("cat-file", "-e", LAST_RELEASE).returncode == 0:
        return None
    return Sentence("needs a clone with its history, and git")


def unpack(archive: bytes, folder: Path) -> None:
    """Write the files of git's ``archive`` to ``folder``."""
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, **_SAFELY)  # noqa: S202  # of this repository's own history


def worker_of_the_last_release(environment: ChaosEnvironment, _: Random) -> Effect:
    """Start a worker of the last release, wait until it eats, and stop it."""
    folder = environment.folder / "last-release"
    if not folder.exists():
        unpack(_git("archive", LAST_RELEASE).stdout, folder)
    environment.start_recovery_clock()
    worker = environment.start_worker(environment.new_name("old"), folder=folder)
    environment.wait_until_eats(worker.name, _EATS)
    try:
        environment.stop_worker(worker)
    except DeadlinePassed:
        # That release used Celery's own soft shutdown, which can hang. A service manager would kill it.
        os.killpg(worker.process.pid, signal.SIGKILL)
    return Effect(Sentence("nothing"), environment.configuration.most_unacknowledged)


def _git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, timeout=_GIT, check=False)


FAULTS = (
    Fault(
        "rolling-deploy",
        "Adds a worker of the last release, and stops it when it has eaten.",
        "workers of the last release and of this one both eat",
        worker_of_the_last_release,
        requirement=_missing,
    ),
)
