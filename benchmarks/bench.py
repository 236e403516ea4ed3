"""The settings of one measurement, in a file that all its processes read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

#: The file is in the working directory of each process. So a peer's workers can be started with the peer's
#: own command, without extra options.
_FILE = Path("bench.json")


@dataclass(frozen=True, slots=True)
class Bench:
    """The settings of one measurement."""

    url: str
    """The broker's URL, with a virtual host only for this measurement."""
    confirm: bool = False
    """Whether the publisher uses publisher confirms."""
    task_seconds: float = 0
    """Seconds that each task sleeps."""
    database: str = ""
    """The URL of the database for a peer that writes to one."""
    c_client: str = ""
    """The path of the compiled client in C."""

    @classmethod
    def here(cls) -> Self:
        """Read the settings from the working directory.

        Raises:
            OSError: there is no such file.
        """
        return cls(**json.loads(_FILE.read_text()))

    def set_up(self, folder: Path) -> None:
        """Write the settings to a file in ``folder``. Only this user can read it: it contains a password."""
        path = folder / _FILE
        path.touch(0o600)
        path.write_text(json.dumps(asdict(self)))
