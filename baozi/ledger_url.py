"""Checks the URL of a ledger, which names an SQLite file or a PostgreSQL database."""

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: The allowed schemes: Python's own SQLite driver, and psycopg, which is a dependency.
_SQLITE, _POSTGRESQL = {"sqlite", "sqlite+pysqlite"}, {"postgresql", "postgresql+psycopg"}


def file_url(file: Path) -> URL:
    """Return the URL of the ledger in ``file``, whatever characters its path has.

    A URL that is made by text formatting would be wrong for a path that contains ``?`` or ``%20``.
    """
    return URL.create("sqlite", database=str(file.absolute()))


def parsed(url: str) -> URL:
    """Parse a ledger's URL.

    Raises:
        ValueError: the URL is invalid. The message has the reason, and does not repeat the URL, which may
            contain a password.
    """
    if "\0" in unquote(url):
        raise ValueError("contains a NUL character")
    try:
        found = make_url(url)
        if found.drivername in _POSTGRESQL:
            # Finds what only the first connection would find, such as a port that is not a number.
            found.get_dialect()().create_connect_args(found)
    except (ArgumentError, TypeError, ValueError) as error:
        # Not the error's own text: int() repeats the text in the place of the port, perhaps a password.
        raise ValueError("is not a database URL") from error
    if found.drivername not in _SQLITE | _POSTGRESQL:
        raise ValueError("names a database or a driver that is neither sqlite nor postgresql")
    if found.drivername in _SQLITE:
        _check_is_file(found)
        if "?" in url:
            raise ValueError("has options, and SQLite has none: in a file's name write %3F for '?'")
    return found


def _check_is_file(url: URL) -> None:
    if url.host or url.username or url.password or url.port:
        raise ValueError("names a host, and SQLite has none: write sqlite:///FILE or sqlite:////FILE")
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise ValueError("is no file, and processes cannot share SQLite's memory: write sqlite:///FILE")
