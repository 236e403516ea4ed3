"""The books of a kitchen: its ledger, and what its producers and workers have written down."""

import time
from pathlib import Path

from sqlalchemy import func, select

from baozi.audit import Audit, settled_audit
from baozi.errors import BaoziError
from baozi.ledger import Ledger
from baozi.ledger_schema import eaten
from baozi.ledger_url import file_url
from side_by_side import sums

#: Seconds without a line in a producer's journal after which nobody is accepted.
_SILENCE = 0.5


class Books:
    """What stands in a folder of a kitchen's own, of its one run."""

    def __init__(self, folder: Path, run: str) -> None:
        """Take the folder; nothing is made yet."""
        self._run = run
        self.home = folder / "home"
        """Where the producers' journals are, below ``runs``."""
        self.eaten_folder = folder / "eaten"
        """Where the workers write down what they eat."""
        self.ledger_file = folder / "ledger.sqlite3"
        self._ledger = Ledger(file_url(self.ledger_file))

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def eaten(self, consumer: str | None = None) -> int:
        """How many baozi are in the ledger, or how many of one consumer."""
        how_many = select(func.count()).select_from(eaten)
        if consumer is not None:
            how_many = how_many.where(eaten.c.consumer == consumer)
        try:
            with self._ledger.reading() as connection:
                return int(connection.execute(how_many).scalar_one())
        except BaoziError:  # not made yet
            return 0

    def deliveries(self) -> int:
        """How many deliveries are in the ledger."""
        how_many = select(func.coalesce(func.sum(eaten.c.deliveries), 0))
        with self._ledger.reading() as connection:
            return int(connection.execute(how_many).scalar_one())

    def eaten_twice(self) -> int:
        """How often a worker ate what was eaten already, by what all of them have written down."""
        return sums.count(line.entry for line in sums.read_lines(self.eaten_folder)).duplicated

    def accepted(self, producer: str) -> int:
        """How many of ``producer``'s were accepted, as its journal has it."""
        journal = self._journals / f"{producer}.journal"
        return journal.read_bytes().count(b" accepted ") if journal.exists() else 0

    @property
    def _journals(self) -> Path:
        return self.home / "runs" / self._run

    def nobody_is_accepted(self) -> bool:
        """Whether, in the half second that this takes, no producer has written a line."""
        before = self.written()
        time.sleep(_SILENCE)
        return self.written() == before

    def written(self) -> int:
        """Bytes of all producers' journals."""
        return sum(path.stat().st_size for path in self._journals.glob("*.journal"))

    def audit(self, orders: int, wait: float) -> Audit:
        """Audit so many orders once they are closed and eaten, or after ``wait`` seconds.

        Raises:
            LedgerError: there is nothing to audit.
        """
        return settled_audit(self._ledger, self._run, lambda: None, wait, orders)
