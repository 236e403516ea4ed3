"""The one place that reads settings: the environment's ``BAOZI_…`` variables, checked once."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from baozi.broker_url import nodes
from baozi.errors import UsageError
from baozi.ledger_url import file_url, parsed

#: A wait in seconds that is neither nothing nor for ever.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


#: A worker's tray where eating takes no time. With larger ones more is eaten, and more again after a kill
#: (docs/speed.md).
_TRAY = 100


#: Name of the folder that is looked for in the current folder and in those above it.
_HOME = Path(".baozi")

#: Bytes of a queue's name: an AMQP short string has 255, and others are made of it.
_LONGEST_QUEUE_NAME = 200


def _known_ledger(url: SecretStr) -> SecretStr:
    parsed(url.get_secret_value())
    return url


def _known_broker(url: SecretStr) -> SecretStr:
    if url.get_secret_value():
        nodes(url.get_secret_value())
    return url


def checked_queue_name(name: str) -> str:
    """Return ``name`` if a guarded queue may have it.

    Raises:
        ValueError: it is empty, too long for RabbitMQ with what is added to it, is RabbitMQ's own, or has a
            character that a routing key or a file's name may not have.
    """
    if not name or len(name.encode()) > _LONGEST_QUEUE_NAME:
        raise ValueError(f"must have 1 to {_LONGEST_QUEUE_NAME} bytes")
    if name.startswith("amq.") or not all(letter.isprintable() and letter not in "*#/ " for letter in name):
        raise ValueError(
            "must not start with 'amq.' nor contain a space, '*', '#', '/' or a control character"
        )
    return name


def _default_home() -> Path:
    """Return the folder that is used where BAOZI_HOME names none."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        return _HOME
    for folder in (here, *here.parents):
        # Above the current folder only one of this user's: what another user left in /tmp names a broker.
        if _is_folder(folder / _HOME, ours=folder != here):
            return folder / _HOME
    return here / _HOME if _runs_in_a_clone() else _of_user() or here / _HOME


def _is_folder(path: Path, ours: bool) -> bool:
    try:
        return path.is_dir() and (not ours or path.stat().st_uid == os.geteuid())
    except OSError:
        return False


def _runs_in_a_clone() -> bool:
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()


def _of_user() -> Path | None:
    """Return the user's folder for an application's data, by the platform's convention; None without a home.

    XDG Base Directory Specification: XDG_DATA_HOME, if it is absolute, else ``~/.local/share``.
    """
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "baozi"
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (named if named.is_absolute() else home / ".local" / "share") / "baozi"


class Settings(BaseSettings):
    """Every setting, its default and its hazard. ``BAOZI_EAT_SECONDS=2`` sets ``eat_seconds``."""

    model_config = SettingsConfigDict(env_prefix="BAOZI_", frozen=True)

    home: Path = Field(default_factory=_default_home)
    """Folder of all that the project keeps: the private broker, the ledger, the producers' journals. Default:
    the nearest folder ``.baozi``, in the current folder or above it. Where there is none: in a clone of the
    repository ``.baozi`` in the current folder, else the user's folder for data
    (``~/.local/share/baozi``). It is made when it is needed."""

    broker_url: Annotated[SecretStr, AfterValidator(_known_broker)] | None = None
    """``amqp://user:password@host:port/vhost``, or ``amqps://`` for TLS; for a cluster, several URLs
    separated by ``;``. In a user, a password and a virtual host, ``# / ? [ ] @ : ; %`` and space are written
    as ``%23`` and so on. TLS checks the server's certificate and host name; OpenSSL's own variable
    ``SSL_CERT_FILE`` names the authority's file. ``memory://`` is kombu's queue inside one process, which
    promises nothing. Default: what ``baozi broker start`` made."""

    celery_broker_url: Annotated[SecretStr | None, Field(validation_alias="CELERY_BROKER_URL")] = None
    """Celery's own variables (``celery -b`` sets this one) would override ``broker_url`` for a worker and for
    ``eat.delay()``, and for nothing else. So they are refused unless they name the same broker."""
    celery_broker_read_url: Annotated[SecretStr | None, Field(validation_alias="CELERY_BROKER_READ_URL")] = (
        None
    )
    celery_broker_write_url: Annotated[
        SecretStr | None, Field(validation_alias="CELERY_BROKER_WRITE_URL")
    ] = None

    stop_timeout: Seconds = 10
    """Seconds after Ctrl-C or SIGTERM in which a producer confirms what is in hand and closes its order, also
    while it reconnects. If they pass, the order is left open. Keep it below the time after which the service
    manager kills (``docker stop`` 10)."""

    authkey: SecretStr | None = None
    """The secret that ``local_mp``'s Manager and its clients share. Who has it can run code on the server,
    for what travels is pickled. Default: none, and there never is one."""

    broker_timeout: Seconds = 30
    """Seconds that one exchange with the broker may take in all: to connect, to put, to be confirmed."""

    window: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many baozi a producer may have on the way to the broker, put and not yet confirmed. With 1 each put
    waits for its confirm, and so it is where the queue has a capacity: refused in between, they would come
    out of order."""

    ledger_url: Annotated[SecretStr, AfterValidator(_known_ledger)] | None = None
    """SQLAlchemy URL. ``?`` and ``%`` in the name of a file are written ``%3F`` and ``%25`` there. Default:
    SQLite in ``home``. SQLite is for one machine: several need PostgreSQL."""

    ledger_timeout: Seconds = 300
    """Seconds a worker waits for a ledger that is away before it gives its baozi back to the broker. Keep
    it under ``eat_time_limit``."""

    eat_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0
    """Seconds that eating one baozi takes."""

    tray: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many baozi a pool process may get at once, and commit together; fewer if fewer are there. A tray
    of slow ones keeps them from workers that idle, and when its process is killed all of it is eaten again.
    Default: 100 where ``eat_seconds`` is 0, else each by itself."""

    task_events: bool = True
    """Whether workers tell of each baozi that they receive, start and eat, from the first one on. Without,
    Flower sees only what is eaten after it has asked. They cost a fifth of what is eaten (docs/speed.md)."""

    eat_time_limit: Seconds = 1200
    """Seconds after which a worker process that is still eating is killed and its baozi given back. Must be
    under the broker's consumer timeout of 30 minutes, or the broker closes the worker's channel."""

    delivery_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """How often a baozi may be given back before it goes to the dead letters. An argument of the queue: a
    change needs the queue deleted first. 20 is RabbitMQ's own default from 4.0 on; 3.10 has none."""

    queue: Annotated[str, AfterValidator(checked_queue_name)] = "baozi"
    """Name of the queue that workers consume and that the commands look at. Its dead letters' queue and its
    ledger's are named after it."""

    capacity: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """How many baozi the queue holds before a put waits. Soft: a quorum queue takes a few more (see
    docs/reliability.md). An argument of the queue, as above. Default: no bound."""

    journal: Path | None = None
    """Folder where workers write down each baozi that they start and eat, as ``consumer/NAME.journal``. For
    comparisons: it grows without bound. A worker that cannot write it says so in its log and in the next line
    that it can write, and goes on eating. Default: none."""

    soft_shutdown_timeout: Seconds = 20
    """Seconds that a stopped worker may go on eating what it has begun. Keep it below the time after which
    the service manager kills (systemd 90, ``docker stop`` 10)."""

    debug: bool = False
    """Whether a command that fails prints the traceback, as ``--debug`` has it do."""

    @property
    def home_reason(self) -> str:
        """Why ``home`` is that folder, to follow its name."""
        if "home" in self.model_fields_set:
            return "BAOZI_HOME names it"
        if self.home.name == _HOME.name and self.home.is_dir():
            return f"the nearest {_HOME}, from the current folder upwards"
        return f"there is no {_HOME} in the current folder or above it, and BAOZI_HOME is not set"

    @property
    def ledger(self) -> URL:
        """The ledger's SQLAlchemy URL. As a string it has no password."""
        if self.ledger_url is not None:
            return parsed(self.ledger_url.get_secret_value())
        return file_url(self.home / "ledger.sqlite3")

    @property
    def tray_size(self) -> int:
        """How many baozi a pool process may get at once."""
        if self.tray is not None:
            return self.tray
        return 1 if self.eat_seconds else _TRAY

    @property
    def runs(self) -> Path:
        """The folder of the producers' journals."""
        return self.home / "runs"


@cache
def settings() -> Settings:
    """Read the settings, once a process.

    Raises:
        UsageError: a variable's value is out of range; says which, and never repeats a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "BAOZI_" + str(first["loc"][0]).upper()
        raise UsageError(f"{name}: {first['msg'].removeprefix('Value error, ')}.") from None
