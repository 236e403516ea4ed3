"""Reads and checks the settings: the environment variables ``BAOZI_…``. No other module reads them."""

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
from baozi.language import Sentence
from baozi.ledger_url import file_url, parsed
from baozi.library_sentences import recognized

#: A timeout in seconds, from above 0 to one day.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


#: The name of the folder that is searched for in the current folder and in those above it.
_HOME = Path(".baozi")

#: Bytes of a queue's name. An AMQP short string has at most 255, and other names are this one with a suffix.
_LONGEST_QUEUE_NAME = 200


def _known_ledger(url: SecretStr) -> SecretStr:
    parsed(url.get_secret_value())
    return url


def _known_broker(url: SecretStr) -> SecretStr:
    if url.get_secret_value():
        nodes(url.get_secret_value())
    return url


def checked_queue_name(name: str) -> str:
    """Return ``name`` if it is valid as the name of a guarded queue.

    Raises:
        ValueError: the name is empty or too long, begins with RabbitMQ's own prefix ``amq.``, or has a
            character that is not allowed in a routing key or a file name.
    """
    if not name or len(name.encode()) > _LONGEST_QUEUE_NAME:
        raise ValueError(f"must have 1 to {_LONGEST_QUEUE_NAME} bytes")
    if name.startswith("amq.") or not all(letter.isprintable() and letter not in "*#/ " for letter in name):
        raise ValueError(
            "must not start with 'amq.' nor contain a space, '*', '#', '/' or a control character"
        )
    return name


def _default_home() -> Path:
    """Return the folder that is used if BAOZI_HOME is not set."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        return _HOME
    for folder in (here, *here.parents):
        # Above the current folder, it must belong to this user: another user's folder, for example in /tmp,
        # could name a broker of that user.
        if _is_folder(folder / _HOME, ours=folder != here):
            return folder / _HOME
    return here / _HOME if _runs_in_a_clone() else _of_user() or here / _HOME


def _is_folder(path: Path, ours: bool) -> bool:
    try:
        # Windows has no user ids.
        owned = not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()
        return path.is_dir() and (owned or not ours)
    except OSError:
        return False


def _runs_in_a_clone() -> bool:
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()


def _of_user() -> Path | None:
    """Return the platform's folder for a user's application data, or None if the user has no home folder.

    On Linux it is XDG_DATA_HOME, if that is absolute, else ``~/.local/share`` (XDG Base Directory
    Specification).
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
    """All settings, with their defaults and dangers. ``BAOZI_EAT_SECONDS=2`` sets ``eat_seconds``."""

    model_config = SettingsConfigDict(env_prefix="BAOZI_", frozen=True)

    home: Path = Field(default_factory=_default_home)
    """The folder for all files: the private broker, the ledger, the producers' journals. Default: the nearest
    folder ``.baozi`` in the current folder or above it. If there is none: in a clone of the repository,
    ``.baozi`` in the current folder; otherwise the user's data folder (``~/.local/share/baozi``). It is
    created when it is needed."""

    broker_url: Annotated[SecretStr, AfterValidator(_known_broker)] | None = None
    """``amqp://user:password@host:port/vhost``, or ``amqps://`` for TLS; for a cluster, several URLs
    separated by ``;``. In a user, a password and a virtual host, ``# / ? [ ] @ : ; %`` and space are written
    as ``%23`` and so on. TLS checks the server's certificate and host name; OpenSSL's own variable
    ``SSL_CERT_FILE`` names the file of the certificate authority. ``memory://`` is kombu's queue inside one
    process, which guarantees nothing. Default: the broker that ``baozi broker start`` started."""

    celery_broker_url: Annotated[SecretStr | None, Field(validation_alias="CELERY_BROKER_URL")] = None
    """Celery's own variables would override ``broker_url``, but only for workers and for ``eat.delay()``.
    (``celery -b`` sets this one.) So they are refused unless they name the same broker."""
    celery_broker_read_url: Annotated[SecretStr | None, Field(validation_alias="CELERY_BROKER_READ_URL")] = (
        None
    )
    celery_broker_write_url: Annotated[
        SecretStr | None, Field(validation_alias="CELERY_BROKER_WRITE_URL")
    ] = None

    stop_timeout: Seconds = 10
    """Seconds after Ctrl-C or SIGTERM within which a producer must get its messages confirmed and close its
    order, also while it reconnects. After that, the order is left open. Keep it below the time after which
    the service manager kills the process (``docker stop`` 10)."""

    authkey: SecretStr | None = None
    """The secret that ``local_mp``'s Manager and its clients share. Everyone who has it can run code on the
    server, because the data is pickled. It has no default."""

    broker_timeout: Seconds = 30
    """Seconds that one exchange with the broker may take in total: to connect, to put and to confirm."""

    window: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """The largest number of unconfirmed messages of a producer. With 1, each put waits for its confirm. If
    the queue has a capacity, it is always 1: otherwise a refused message would come after later ones."""

    ledger_url: Annotated[SecretStr, AfterValidator(_known_ledger)] | None = None
    """The ledger's SQLAlchemy URL. Write ``?`` and ``%`` in the name of a file as ``%3F`` and ``%25``.
    Default: an SQLite file in ``home``. SQLite works on one machine. Several machines need PostgreSQL."""

    ledger_timeout: Seconds = 300
    """Seconds that a worker waits for an unavailable ledger before it returns its messages to the queue. Keep
    it below ``eat_time_limit``."""

    eat_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0
    """Seconds that eating one baozi takes."""

    batch_ms: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = 50
    """Milliseconds that the functions of one batch may take, for tasks without ``batch=``. A worker measures
    each function, and makes its batches so large that they take no longer: at most 100 messages. So a message
    waits at most this long for others of its batch, and if a pool process is killed, what it executed in this
    time may be executed again. 0: each message is executed alone."""

    tray: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The largest number of baozi that a pool process gets at once and commits together. With slow baozi, a
    large tray keeps work from idle workers, and if the process is killed, the whole tray is eaten again.
    Default: as many as ``batch_ms`` allows."""

    task_events: bool = True
    """Whether workers send Celery's events for each baozi that they receive, start and eat. Without them,
    Flower shows only the baozi that are eaten after it has asked for events. docs/speed.md says
    how much speed they cost."""

    eat_time_limit: Seconds = 1200
    """Seconds after which a pool process that is still eating is killed and its messages return to the queue.
    It must be below RabbitMQ's consumer timeout of 30 minutes, after which the broker closes the channel."""

    delivery_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """How often a message may return to the queue before it is dead-lettered. It is an argument of the queue:
    to change it, delete the queue first. 20 is RabbitMQ's default from 4.0 on. 3.10 has no limit."""

    queue: Annotated[str, AfterValidator(checked_queue_name)] = "baozi"
    """The name of the queue that workers consume and that the commands use. The dead-letter queue and the
    ledger's queue are named after it."""

    capacity: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """How many messages the queue holds before a put waits. A quorum queue may accept a few more (see
    docs/reliability.md). It is an argument of the queue: to change it, delete the queue first. Default: no
    limit."""

    journal: Path | None = None
    """The folder in which workers record each baozi that they start and eat, in ``consumer/NAME.journal``. It
    is meant for comparisons and grows without limit. A worker that cannot write it logs that, writes it in
    the next line that it can write, and continues to eat. Default: no journal."""

    watch_password: SecretStr | None = None
    """The password of ``baozi watch``, with the user ``baozi``. Its address has a random token in any case.
    Default: no password, and only this machine can reach the page."""

    soft_shutdown_timeout: Seconds = 20
    """Seconds in which a stopped worker may finish the messages that it has begun. Keep it below the time
    after which the service manager kills the process (systemd 90, ``docker stop`` 10)."""

    debug: bool = False
    """Whether a command that fails prints the traceback, like ``--debug``."""

    @property
    def home_reason(self) -> str:
        """Why ``home`` is this folder, as a text that follows the folder's name."""
        if "home" in self.model_fields_set:
            return Sentence("BAOZI_HOME names it")
        if self.home.name == _HOME.name and self.home.is_dir():
            return Sentence("the nearest {folder}, from the current folder upwards", folder=_HOME)
        return Sentence(
            "there is no {folder} in the current folder or above it, and BAOZI_HOME is not set", folder=_HOME
        )

    @property
    def ledger(self) -> URL:
        """The ledger's SQLAlchemy URL. Its ``str`` does not show the password."""
        if self.ledger_url is not None:
            return parsed(self.ledger_url.get_secret_value())
        return file_url(self.home / "ledger.sqlite3")

    @property
    def runs(self) -> Path:
        """The folder of the producers' journals."""
        return self.home / "runs"


@cache
def settings() -> Settings:
    """Return the settings. They are read once in each process.

    Raises:
        UsageError: the value of a variable is invalid. The message names the variable and shows no secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "BAOZI_" + str(first["loc"][0]).upper()
        raise UsageError(
            "{name}: {problem}.", name=name, problem=recognized(first["msg"].removeprefix("Value error, "))
        ) from None
