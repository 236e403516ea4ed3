"""A rolling deployment: workers of an earlier release and of this one, side by side."""

import os
import shutil
import signal
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from local_mp.guarded import DeadlinePassed
from side_by_side.faults.strike import Strike, Struck
from side_by_side.kitchen import Kitchen

#: The state of this repository that stands for the release before this one: workers had no trays yet.
LAST_RELEASE = "33b46723def3d73f32483d42d9bc05217872f1b6"
_ROOT = Path(__file__).parents[2]
#: Python 3.11.4 and later can refuse files that would leave the folder (PEP 706); ours would not.
_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
#: Seconds for git; for the worker to eat.
_GIT, _EATS = 30, 60


def is_there() -> bool:
    """Whether this is a clone with the last release in its history."""
    return shutil.which("git") is not None and _git("cat-file", "-e", LAST_RELEASE).returncode == 0


def unpack(archive: bytes, folder: Path) -> None:
    """Write the files of git's ``archive`` to ``folder``."""
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, **_SAFELY)  # noqa: S202  # of this repository's own history


def worker_of_the_last_release(kitchen: Kitchen, _: Random) -> Struck:
    """Have a worker of the last release join, see it eat, and send it home."""
    folder = kitchen.folder / "last-release"
    if not folder.exists():
        unpack(_git("archive", LAST_RELEASE).stdout, folder)
    kitchen.mark()
    worker = kitchen.start_worker(kitchen.new_name("old"), folder=folder)
    kitchen.wait_for_eating_of(worker.name, _EATS)
    try:
        kitchen.send_home(worker)
    except DeadlinePassed:
        # That release left its soft shutdown to Celery, whose own can hang. A service manager kills it then.
        os.killpg(worker.process.pid, signal.SIGKILL)
    return Struck("nobody", kitchen.menu.held)


def _git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, timeout=_GIT, check=False)


STRIKES = (
    Strike(
        "rolling-deploy", "workers of the last release and of this one both eat", worker_of_the_last_release
    ),
)
