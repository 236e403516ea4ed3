"""Compiles the client in C (``peers/c_client.c``), if this machine has a compiler and librabbitmq."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.not_measured import NotMeasured

_SOURCE = Path(__file__).parent / "peers" / "c_client.c"
_LIBRARY = "librabbitmq"
#: Seconds for the compiler, and for pkg-config.
_TIMEOUT = 60


def compiled(folder: Path) -> tuple[Path, str]:
    """Compile the client into ``folder``. Return its path, and the version of librabbitmq.

    Raises:
        NotMeasured: there is no compiler or no librabbitmq, or the compiler failed.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise NotMeasured("there is no C compiler on this machine")
    version = _pkg_config("--modversion")
    flags = _pkg_config("--cflags", "--libs").split()
    program = folder / "c_client"
    command = [compiler, "-O2", "-std=c11", "-D_GNU_SOURCE", "-o", str(program), str(_SOURCE), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise NotMeasured("the client in C was not compiled: {said}", said=done.stderr.strip()[:200])
    return program, version


def _pkg_config(*options: str) -> str:
    program = shutil.which("pkg-config")
    if program is None:
        raise NotMeasured("there is no pkg-config, which finds librabbitmq")
    done = subprocess.run(
        [program, *options, _LIBRARY], capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode:
        raise NotMeasured("librabbitmq is not installed (Debian: librabbitmq-dev)")
    return done.stdout.strip()
