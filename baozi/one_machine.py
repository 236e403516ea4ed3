"""Ensures that only one machine's workers use an SQLite ledger at a time.

Next to the ledger's file is a file with the suffix ``-machine``. It contains the boot id of the machine whose
workers use the ledger, and a number that these workers change regularly. Each worker also holds a shared lock
(``flock``) on the file. The kernel releases it when the process ends. So a worker that starts knows:

- If a process holds the lock, that process runs on this machine. The worker may use the ledger.
- If no process holds the lock and the boot id is this machine's, this machine used the ledger last.
- If no process holds the lock and the boot id is different, this machine was restarted, the ledger was moved
  here, or another machine uses it. In the last case the number changes.

No clocks are compared. Locks work across machines only on network file systems, which are refused
(:mod:`baozi.file_systems`). The boot id alone is not enough, because each LXC container has its own.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import NamedTuple

from baozi.errors import AnotherMachine, LedgerAway

#: Linux writes a new random id here at each boot (random(4)). Other systems have no such file, and are not
#: checked.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: Seconds between two changes of the number.
RENEW_EVERY = 5.0
#: Seconds for which a worker observes the number. If it has not changed, the workers that wrote it have
#: ended. It is longer than RENEW_EVERY, because a busy worker may be late.
OBSERVED = 15.0
#: Seconds to wait for other workers that start on this machine. One of them observes, and the others wait.
_GATE_TIMEOUT = 60.0
#: Seconds between two checks of the number, or of the lock on the folder.
_POLL_EVERY = 0.2


#: The ledger that this process uses: none, or one.
_uses: "list[Use]" = []


def use(ledger: Path) -> None:
    """Use the SQLite ledger in the file ``ledger`` until this process ends.

    Raises:
        AnotherMachine: another machine uses the ledger.
        LedgerAway: another worker of this machine took over a minute to start.
    """
    for one in _uses:
        one.end()
    _uses[:] = [Use(ledger)]
    _uses[0].begin()


def renew() -> None:
    """Change the number in the file, if this process uses an SQLite ledger. See :meth:`Use.renew`.

    Raises:
        AnotherMachine: another machine has begun to use the ledger.
    """
    for one in _uses:
        one.renew()


class _Noted(NamedTuple):
    """The contents of the file."""

    machine: str
    """The boot id; empty if there is no file."""
    number: str


class Use:
    """The use of an SQLite ledger by one process and its children, from :meth:`begin` to :meth:`end`."""

    def __init__(self, ledger: Path) -> None:
        """Set the ledger's file, which must exist. Nothing is opened yet."""
        self._ledger = ledger
        self._file = ledger.with_name(f"{ledger.name}-machine")
        self._handle: int | None = None
        self._machine = ""

    def begin(self) -> None:
        """Check that no other machine uses the ledger, and record that this machine does.

        This takes :data:`OBSERVED` seconds if the ledger was last used on another machine, or on this one
        before a restart. If it cannot be checked, this prints a line on stderr and returns.

        Raises:
            AnotherMachine: another machine uses the ledger.
            LedgerAway: another worker of this machine took over a minute to start.
        """
        try:
            own = BOOT_ID.read_text().strip()
        except OSError:
            return
        try:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with self._gate():
                if _is_locked(self._handle, LOCK_EX):
                    self._take(own)
                flock(self._handle, LOCK_SH | LOCK_NB)
                self._machine = self._noted().machine
        except (AnotherMachine, LedgerAway):
            self.end()
            raise
        except OSError as error:
            self.end()
            reason = f"{self._file}: {error.strerror}"
            print(f"It is not known whether another machine uses the ledger ({reason}).", file=sys.stderr)

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Lock the ledger's folder in this block, so that one worker of this machine checks at a time."""
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + _GATE_TIMEOUT
            while not _is_locked(folder, LOCK_EX):
                if time.monotonic() >= deadline:
                    raise LedgerAway(
                        "Waited {gate_timeout:g} s for another worker that is starting with the ledger"
                        " {ledger}. Try again.",
                        gate_timeout=_GATE_TIMEOUT,
                        ledger=self._ledger,
                    )
                time.sleep(_POLL_EVERY)
            yield
        finally:
            os.close(folder)

    def _take(self, own: str) -> None:
        """Write this machine's boot id to the file, if no other machine uses the ledger."""
        before = self._noted()
        if before.machine not in ("", own):
            print(
                f"The ledger {self._ledger} was used on another machine, or before this one was started."
                f" Waiting {OBSERVED:g} s to see whether another machine still uses it.",
                file=sys.stderr,
            )
            deadline = time.monotonic() + OBSERVED
            while time.monotonic() < deadline:
                time.sleep(_POLL_EVERY)
                if self._noted() != before:
                    raise self._refusal()
        self._note(own)

    def renew(self) -> None:
        """Change the number. The worker calls this every :data:`RENEW_EVERY` seconds.

        Raises:
            AnotherMachine: another machine has begun to use the ledger, because this process was suspended
                for too long.
        """
        if self._handle is None:
            return
        try:
            machine = self._noted().machine
            if machine == self._machine:
                self._note(machine)
        except OSError:  # for example a full disk; the next call tries again
            return
        # It is empty if the file was deleted.
        if machine not in ("", self._machine):
            raise self._refusal()

    def end(self) -> None:
        """Release the lock. Calling this twice is harmless."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _refusal(self) -> AnotherMachine:
        return AnotherMachine(
            "Another machine uses the ledger {ledger}, and SQLite works on one machine only."
            " Stop the workers there, or set BAOZI_LEDGER_URL to a PostgreSQL database.",
            ledger=self._ledger,
        )

    def _noted(self) -> _Noted:
        try:
            # Opened again each time, so that a file system's cache does not hide what another machine wrote.
            machine, _, number = self._file.read_text(errors="replace").strip().partition(" ")
        except FileNotFoundError:
            return _Noted("", "")
        return _Noted(machine, number)

    def _note(self, machine: str) -> None:
        # One write, always of the same length, so that no reader sees a part of it.
        if self._handle is not None:
            os.pwrite(self._handle, f"{machine} {time.time_ns():020}\n".encode(), 0)


def _is_locked(handle: int, kind: int) -> bool:
    """Try to take the lock, without waiting. Return whether this process has it now."""
    try:
        flock(handle, kind | LOCK_NB)
    except BlockingIOError:
        return False
    return True
