"""Programs that are run to their end, and what they say."""

import subprocess
from collections.abc import Sequence


def run_to_its_end(
    command: Sequence[str], *, timeout: float | None = None, start_new_session: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` without a terminal; its ``stdout`` has all that it said, errors too.

    Args:
        command: the program and its arguments.
        timeout: seconds it may take; default: as long as it does.
        start_new_session: whether a Ctrl-C at our terminal shall not reach it.

    Raises:
        OSError: it cannot be run.
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        start_new_session=start_new_session,
    )
