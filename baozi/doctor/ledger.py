"""Collects facts about a ledger: its schema version and the clock of its server. It only reads."""

import time
from contextlib import closing

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from baozi.doctor.facts import LedgerFacts
from baozi.errors import NothingToAudit
from baozi.ledger import Ledger as Tables
from baozi.ledger_schema import VERSION

#: Seconds that the database may take to answer.
_TIMEOUT = 5


def look(url: URL, unseen: list[str]) -> LedgerFacts | None:
    """Return what is found, or None if there is no ledger yet.

    Args:
        url: the ledger's.
        unseen: gets a sentence if there is none.

    Raises:
        LedgerError: it cannot be read.
    """
    with closing(Tables(url, _TIMEOUT)) as ledger:
        try:
            version = ledger.version()
        except NothingToAudit:
            unseen.append("the ledger: there is none yet, a worker makes it when it starts")
            return None
    return LedgerFacts(version, VERSION, _ahead(url))


def _ahead(url: URL) -> float | None:
    if url.get_backend_name() != "postgresql":
        return None
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": _TIMEOUT}
    )
    try:
        with engine.connect() as connection:
            before = time.time()
            there = float(
                connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
            )
            # In the middle of the exchange, as NTP reckons.
            return there - (before + time.time()) / 2
    except SQLAlchemyError:
        return None
    finally:
        engine.dispose()
