"""What the tests of `baozi chaos` share: the command, run as a user does, and what its results must say."""

import os
import re
import subprocess
import sys
from pathlib import Path

from side_by_side.chaos import ChaosResults


def chaos(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run the command, see that it ends with ``code``, and return what it printed on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "baozi", "chaos", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("BAOZI_")},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:] + _last_words(done.stderr)
    return done.stdout, done.stderr


def _last_words(said: str) -> str:
    """The end of each log that was kept."""
    kept = re.search(r"are kept in (.+)\.$", said, re.MULTILINE)
    logs = sorted(Path(kept[1]).glob("logs/*.log")) if kept else []
    return "".join(f"\n{log.name}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def only(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--fault", name)]


def check_that_it_is_sound(said: str, faults: tuple[str, ...]) -> ChaosResults:
    results = ChaosResults.model_validate_json(said)
    assert sorted(step.fault for step in results.steps) == sorted(faults)
    sums = results.sums
    assert sums.accepted is not None
    assert sums.eaten == sums.accepted + sums.recovered > 100
    assert (sums.lost, sums.unexpected, sums.eaten_twice, sums.dead) == (0, 0, 0, 0)
    assert sums.eaten <= sums.deliveries <= sums.most_deliveries
    return results
