"""The broker's files: its permanent name and password, and the record of its current start."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baozi.errors import BrokerError, NoBroker

#: Seconds to wait for another command: apt may take ten minutes, and a node one.
_LOCK_DEADLINE = 720


class Identity(BaseModel):
    """The broker's name and password. They never change, because its data depends on them."""

    model_config = ConfigDict(frozen=True)

    name: str
    password: str = Field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Return a new identity: a name that no other folder's broker has, and a password."""
        return cls(name=f"baozi-{secrets.token_hex(4)}", password=secrets.token_urlsafe(24))


class Record(BaseModel):
    """One start of a broker. It exists from before the first process until after the last."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["private", "container"]
    mark: str
    """A value in the environment of every process of this start; for a container, its name."""
    url: str = Field(repr=False)
    management_url: str
    node: str
    why: str
    pid: int | None = None
    version: str | None = None
    ready: bool = False


class Folder:
    """The broker's folder. Only its owner can read it. Each file is written completely or not at all."""

    def __init__(self, path: Path) -> None:
        """Set the path. The folder is made later."""
        self.path = path.absolute()
        self._record = self.path / "broker.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if it is missing, and lock it. Other commands wait for the lock.

        Raises:
            BrokerError: the folder cannot be used, this system has no such lock, or another command held it
                for 12 minutes.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise BrokerError(
                "The folder {path} cannot be used: {strerror}.", path=self.path, strerror=error.strerror
            ) from None
        try:
            self._wait_for(lock)
            yield
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        try:
            import fcntl  # noqa: PLC0415  # not on Windows, where remote_mp is used with another broker
        except ModuleNotFoundError:
            raise BrokerError(
                "A broker can be started only on Linux and macOS. Set BAOZI_BROKER_URL."
            ) from None
        deadline = time.monotonic() + _LOCK_DEADLINE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        "Another command has held {path} for too long.", path=self.path
                    ) from None
                time.sleep(0.1)
            else:
                return

    def identity(self) -> Identity:
        """Return the identity of this folder's broker. The first call makes it. The lock must be held."""
        path = self.path / "identity.json"
        with suppress(FileNotFoundError, ValidationError):
            return Identity.model_validate_json(path.read_bytes())
        identity = Identity.new()
        self.write(path.name, identity.model_dump_json())
        return identity

    def record(self) -> Record | None:
        """Return the recorded start, or None. The broker may have ended since.

        Raises:
            NoBroker: the record cannot be read, because it is another user's.
        """
        try:
            return Record.model_validate_json(self._record.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        except OSError as error:
            raise NoBroker(
                "The broker's record {record} cannot be read: {strerror}.",
                record=self._record,
                strerror=error.strerror,
            ) from None

    def keep(self, record: Record) -> None:
        """Write ``record``, which replaces the last one."""
        self.write(self._record.name, record.model_dump_json(indent=1))

    def forget(self) -> None:
        """Delete the record. The identity and the broker's data stay."""
        self._record.unlink(missing_ok=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file that only the owner can read (mode 0600), completely or not at all."""
        path, draft = self.path / name, self.path / f"{name}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return draft.replace(path)
