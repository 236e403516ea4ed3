"""What a later command must know of the broker: who it is, for good, and how it runs, for now."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baozi.errors import BrokerError, NoBroker

#: Seconds to wait for another command's turn: apt may take ten minutes and a node one.
_LOCK_DEADLINE = 720


class Identity(BaseModel):
    """What stays over restarts, for the broker's data was made with it."""

    model_config = ConfigDict(frozen=True)

    name: str
    password: str = Field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Invent a name unlike that of any other folder's broker, and a password."""
        return cls(name=f"baozi-{secrets.token_hex(4)}", password=secrets.token_urlsafe(24))


class Record(BaseModel):
    """One start of a broker, from before its first process until its last has gone."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["private", "container"]
    mark: str
    """Stands in the environment of every process of this start; for a container, its name."""
    url: str = Field(repr=False)
    management_url: str
    node: str
    why: str
    pid: int | None = None
    version: str | None = None
    ready: bool = False


class Folder:
    """The broker's folder. Only its owner may look inside; every file is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.path = path.absolute()
        self._record = self.path / "broker.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, made if need be, so that of two commands the second waits for the first.

        Raises:
            BrokerError: the folder cannot be used, or another command held it for 12 minutes.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BrokerError(f"The folder {self.path} cannot be used: {error.strerror}.") from None
        try:
            self._wait_for(lock)
            yield
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + _LOCK_DEADLINE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BrokerError(f"Another command has held {self.path} for too long.") from None
                time.sleep(0.1)
            else:
                return

    def identity(self) -> Identity:
        """Who the broker of this folder is; invented the first time. Call it with the lock held."""
        path = self.path / "identity.json"
        with suppress(FileNotFoundError, ValidationError):
            return Identity.model_validate_json(path.read_bytes())
        identity = Identity.new()
        self.write(path.name, identity.model_dump_json())
        return identity

    def record(self) -> Record | None:
        """The start on record, or ``None``; whether it still runs is another question.

        Raises:
            NoBroker: there is one, of another user, and this one may not know.
        """
        try:
            return Record.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        except OSError as error:
            raise NoBroker(f"The broker's record {self._record} cannot be read: {error.strerror}.") from None

    def keep(self, record: Record) -> None:
        """Put ``record`` in the place of the last."""
        self.write(self._record.name, record.model_dump_json(indent=1))

    def forget(self) -> None:
        """Remove the record; the identity and the broker's data stay."""
        self._record.unlink(missing_ok=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the folder for its owner alone (mode 0600), whole or not at all."""
        path, draft = self.path / name, self.path / f"{name}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return draft.replace(path)
