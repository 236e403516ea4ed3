"""The bench: the folder in which one measurement is made, and what every process of it is told there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

#: In the working directory of each process, so that a peer's own command line can start its workers.
_FILE = Path("bench.json")


@dataclass(frozen=True, slots=True)
class Bench:
    """What a peer must know."""

    url: str
    """The broker's, of a virtual host of this measurement's own."""
    confirm: bool = False
    """Whether the publisher asks for confirms."""

    @classmethod
    def here(cls) -> Self:
        """Return the bench of the working directory.

        Raises:
            OSError: there is none.
        """
        return cls(**json.loads(_FILE.read_text()))

    def set_up(self, folder: Path) -> None:
        """Write it down in ``folder``; it holds a password, so that nobody else may read it."""
        path = folder / _FILE
        path.touch(0o600)
        path.write_text(json.dumps(asdict(self)))
