"""Ensures that only one machine's workers use an SQLite ledger at a time.

Next to the ledger's file is a file with the suffix ``-machine``. It contains the id of the kernel whose
workers use the ledger, and a number that they change regularly. Each worker also holds a lock (``flock``) on
it, which ends with the process. So a worker that starts knows:

- If a process has the lock, it is on this kernel, as all containers of one host are. The worker joins.
- If none has it and the id is this kernel's, this machine used the ledger last.
- If none has it and the id is another kernel's, this machine was restarted, the ledger was moved here, or
  another machine uses it. In the last case the number changes.

No clocks are compared. Locks work across machines only on network file systems, which are refused
(:mod:`baozi.file_systems`). The kernel's id alone is not enough, because each LXC container has its own.
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

#: A random id of each start of the kernel. Other systems than Linux have no such file, and are not checked.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: Seconds between two changes of the number.
RENEW_EVERY = 5.0
#: Seconds after which a number that has not changed is that of workers that have ended. A worker that has
#: much to do may be late by some.
OBSERVED = 15.0
#: Seconds that a worker waits for others of this machine that start: one of them observes, the rest join.
_GATE_TIMEOUT = 60.0
#: Seconds between two looks at the number, or at the gate.
_POLL_EVERY = 0.2


#: What this process uses: nothing, or its worker's ledger.
_uses: "list[Use]" = []


def use(ledger: Path) -> None:
    """Begin to use the SQLite ledger in the file ``ledger`` in this process, until it ends.

    Raises:
        AnotherMachine, LedgerAway: as :meth:`Use.begin` says.
    """
    for one in _uses:
        one.end()
    _uses[:] = [Use(ledger)]
    _uses[0].begin()


def renew() -> None:
    """Record for other machines that this process still uses its ledger, if it is an SQLite one.

    Raises:
        AnotherMachine: as :meth:`Use.renew` says.
    """
    for one in _uses:
        one.renew()


class _Noted(NamedTuple):
    """The file's contents."""

    machine: str
    number: str


class Use:
    """A process's use of an SQLite ledger, from :meth:`begin` until it and its children end."""

    def __init__(self, ledger: Path) -> None:
        """Use the ledger in the file ``ledger``, which exists; nothing is opened yet."""
        self._ledger = ledger
        self._file = ledger.with_name(f"{ledger.name}-machine")
        self._handle: int | None = None
        self._machine = ""

    def begin(self) -> None:
        """Check that no other machine uses the ledger, and record that this one does.

        This takes 15 seconds if the last user was another machine, or this one before a restart. If it cannot
        be checked, a line on stderr says so.

        Raises:
            AnotherMachine: another machine uses it.
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
        """Let one worker of this machine at a time decide."""
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + _GATE_TIMEOUT
            while not _is_locked(folder, LOCK_EX):
                if time.monotonic() >= deadline:
                    raise LedgerAway(
                        f"Waited {_GATE_TIMEOUT:g} s for another worker that is starting with the ledger"
                        f" {self._ledger}. Try again."
                    )
                time.sleep(_POLL_EVERY)
            yield
        finally:
            os.close(folder)

    def _take(self, own: str) -> None:
        """Write this machine's id in the file, if no other machine uses the ledger."""
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
        """Change the number; called every :data:`RENEW_EVERY` seconds while the ledger is used.

        Raises:
            AnotherMachine: another machine has begun to use the ledger, because this process was held up.
        """
        if self._handle is None:
            return
        try:
            machine = self._noted().machine
            if machine == self._machine:
                self._note(machine)
        except OSError:  # as a full disk: the next time, perhaps
            return
        # Empty: somebody has deleted the file.
        if machine not in ("", self._machine):
            raise self._refusal()

    def end(self) -> None:
        """End the use of the ledger."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _refusal(self) -> AnotherMachine:
        return AnotherMachine(
            f"Another machine uses the ledger {self._ledger}, and SQLite works on one machine only. Stop the"
            " workers there, or set BAOZI_LEDGER_URL to a PostgreSQL database."
        )

    def _noted(self) -> _Noted:
        try:
            # Opened again for each look: what another machine wrote is then not taken from a cache.
            machine, _, number = self._file.read_text(errors="replace").strip().partition(" ")
        except FileNotFoundError:
            return _Noted("", "")
        return _Noted(machine, number)

    def _note(self, machine: str) -> None:
        # Always as long as before, in one write: nobody reads a half.
        if self._handle is not None:
            os.pwrite(self._handle, f"{machine} {time.time_ns():020}\n".encode(), 0)


def _is_locked(handle: int, kind: int) -> bool:
    """Try to take the lock without waiting; return whether this process has it."""
    try:
        flock(handle, kind | LOCK_NB)
    except BlockingIOError:
        return False
    return True
