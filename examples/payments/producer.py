"""Puts some of the payments, and writes each one that the broker has confirmed to a journal.

``python -m examples.payments.producer APP SEED FIRST STEP COUNT JOURNAL ALLOWED`` puts number FIRST and every
STEP-th number after it, below COUNT. After a kill, the next process continues after the last line of JOURNAL.
The file ALLOWED has a number: only numbers below it may be put.
"""

import sys
import time
from importlib import import_module
from pathlib import Path

from baozi.errors import BrokerError
from examples.payments.transfer import payment
from kombu.exceptions import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

#: Seconds for which one payment is tried, or a higher limit awaited; seconds between two attempts.
_PATIENCE, _PAUSE = 300, 0.2


def main(app: str, seed: int, numbers: range, journal: Path, allowed: Path) -> None:
    """Put the payments with these numbers, one after the other."""
    pay = import_module(f"examples.payments.{app}").pay
    tries = Retrying(
        retry=retry_if_exception_type((OperationalError, BrokerError, OSError)),
        stop=stop_after_delay(_PATIENCE),
        wait=wait_fixed(_PAUSE),
        reraise=True,
    )
    # A last line without a newline is incomplete: its payment is put again.
    text = journal.read_text() if journal.exists() else ""
    done = text.count("\n")
    limit = 0
    with journal.open("r+b" if text else "wb", buffering=0) as file:
        file.truncate(file.seek(len(text[: text.rfind("\n") + 1])))
        for number in numbers[done:]:
            if number >= limit:
                limit = _awaited(allowed, number)
            tries(pay.delay, payment(seed, number))
            file.write(b"%d\n" % number)


def _awaited(allowed: Path, number: int) -> int:
    deadline = time.monotonic() + _PATIENCE
    while (limit := int(allowed.read_text() or 0)) <= number:
        if time.monotonic() > deadline:
            sys.exit(f"Waited {_PATIENCE} s in vain for payment {number} to be allowed.")
        time.sleep(0.01)
    return limit


if __name__ == "__main__":
    app, seed, first, step, count, journal, allowed = sys.argv[1:]
    main(app, int(seed), range(int(first), int(count), int(step)), Path(journal), Path(allowed))
