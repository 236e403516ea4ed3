"""Checks a ledger's URL: an SQLite file or a PostgreSQL database."""

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: What a ledger's URL may begin with: the driver that comes with Python, and psycopg, which is a dependency.
_SQLITE, _POSTGRESQL = {"sqlite", "sqlite+pysqlite"}, {"postgresql", "postgresql+psycopg"}


def file_url(file: Path) -> URL:
    """Return the URL of the ledger in ``file``, whatever characters its path has.

    In a URL made by text formatting, characters such as ``?`` and ``%20`` would have another meaning.
    """
    return URL.create("sqlite", database=str(file.absolute()))


def parsed(url: str) -> URL:
    """Read a ledger's URL.

    Raises:
        ValueError: it cannot be a ledger's URL. The message says why, without repeating the URL.
    """
    if "\0" in unquote(url):
        raise ValueError("contains a NUL character")
    try:
        found = make_url(url)
        if found.drivername in _POSTGRESQL:
            # What the first connection would find, such as a port that is not a number.
            found.get_dialect()().create_connect_args(found)
    except (ArgumentError, TypeError, ValueError) as error:
        # int() repeats in its error what stands where the port should: it may be the password.
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
