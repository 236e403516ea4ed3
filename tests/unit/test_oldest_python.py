"""Every patch release of the oldest Python that the project supports will do: Debian 12 has 3.11.2."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Imports every module of ours, and unpacks an archive as the fault rolling-deploy does.
PROGRAM = """
import importlib, io, sys, tarfile, tempfile
from pathlib import Path

for name in sys.argv[1:]:
    importlib.import_module(name)

if hasattr(tarfile, "data_filter"):  # as it was before 3.11.4
    del tarfile.data_filter
    extract = tarfile.TarFile.extractall
    tarfile.TarFile.extractall = lambda files, folder: extract(files, folder)

from side_by_side.faults.rolling_deploy import unpack

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as files:
    files.addfile(tarfile.TarInfo("one/file"), io.BytesIO())
with tempfile.TemporaryDirectory() as folder:
    unpack(archive.getvalue(), Path(folder))
    assert (Path(folder) / "one" / "file").exists()
"""


def modules() -> list[str]:
    folders = ("baozi", "local_mp", "producers", "remote_mp", "side_by_side", "tasks")
    paths = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return sorted(name for name in names if not name.endswith(("__main__", "env")))


@pytest.fixture
def older() -> str:
    """An interpreter of an earlier patch release of this Python, if there is one here; else this one."""
    this = "{}.{}".format(*sys.version_info)
    for candidate in (f"/usr/bin/python{this}", f"/usr/local/bin/python{this}"):
        if Path(candidate).exists():
            asked = [candidate, "-c", "import sys; print(*sys.version_info[:3])"]
            said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
            if tuple(map(int, said.split())) < sys.version_info[:3]:
                return candidate
    return sys.executable


@pytest.mark.slow
def test_the_code_runs_on_an_earlier_patch_release_of_python(older: str) -> None:
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    done = subprocess.run(
        [older, "-c", PROGRAM, *modules()],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
