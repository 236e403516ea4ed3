"""The ledger's schema: its tables, its versions and the upgrade from one version to the next.

Each version is one migration in ``baozi/ledger_migrations/versions``, numbered from 1. Version 1 is the
schema of the releases that had no versions yet. A release needs one version, :data:`VERSION`:

- If the ledger is older, it cannot be used until ``baozi ledger upgrade`` has run. A worker does not upgrade
  it, because workers of an older release may still use it.
- If the ledger is newer, it is used unless its ``compatible_from`` is above :data:`VERSION`. A migration is
  compatible if the older release still works after it, for example because it only adds tables, or columns
  with a default. An incompatible migration must set ``ledger_identity.compatible_from`` to its own version.

So in a rolling deploy the ledger is upgraded first, and then the workers are replaced one by one.
"""

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
)

from baozi.errors import NotALedger, NothingToAudit, SchemaTooNew, SchemaTooOld

# Alembic takes 10 MB. So it is imported only where a ledger is created or upgraded.
if TYPE_CHECKING:
    from alembic.config import Config

#: The version that this release needs: the number of the newest migration.
VERSION = 4

#: The table in which Alembic stores the version. Another application in the same database may already use
#: Alembic's default name.
VERSION_TABLE = "ledger_version"

#: The number of PostgreSQL's advisory lock. Any number that other programs in the database do not use.
_SCHEMA_LOCK = 0xBA021

#: A ledger of version 1 has no version table. It is recognized by these tables and columns.
_FIRST = {"eaten": {"baozi_id", "deliveries"}, "orders": {"accepted", "attempted", "closed_at"}}

metadata = MetaData()

eaten = Table(
    "eaten",
    metadata,
    Column("baozi_id", String, primary_key=True),
    Column("run", String, nullable=False, index=True),
    Column("producer", String, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("consumer", String, nullable=False),
    Column("machine", String, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("eaten_at", Float, nullable=False),
    Column("deliveries", Integer, nullable=False),
    # The order's id; empty if the message names none; NULL if a worker of an older release ate the baozi.
    Column("order_id", String),
)

orders = Table(
    "orders",
    metadata,
    Column("run", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("accepted", BigInteger, nullable=False),
    Column("attempted", BigInteger, nullable=False),
    Column("closed_at", Float, nullable=False),
)

#: Orders that have an id. The table ``orders`` has those without an id, of older releases and other clients.
order_sessions = Table(
    "order_sessions",
    metadata,
    Column("run", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("order_id", String, primary_key=True),
    # The last session that was opened, and the last that was closed. The order is open if they differ.
    Column("opened", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    # From the closing message of the last session.
    Column("attempted", BigInteger, nullable=False),
    Column("unknown", String, nullable=False),
    Column("told_at", Float, nullable=False),
)

#: Baozi that were not eaten because another order of the same run and producer has their number.
refused = Table(
    "refused",
    metadata,
    Column("run", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("order_id", String, primary_key=True),
    Column("refused_at", Float, nullable=False),
)

#: Executions: one row for each key of a task. The task is done when the row is committed. Baozi that older
#: releases ate are only in ``eaten``.
done = Table(
    "done",
    metadata,
    Column("task", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("done_at", Float, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    # The result as JSON; NULL for None.
    Column("result", Text),
)

#: One row: the ledger's id, the oldest schema version whose release can use this ledger, and the name of the
#: queue to which the ledger belongs (NULL: none yet).
identity = Table(
    "ledger_identity",
    metadata,
    Column("id", String, primary_key=True),
    Column("compatible_from", Integer, nullable=False),
    Column("queue", Text),
)


def version(connection: Connection) -> int | None:
    """Return the version of the ledger's schema, or None if there is no ledger.

    Raises:
        NotALedger: the database has other tables with the ledger's names.
    """
    tables = inspect(connection)
    if tables.has_table(VERSION_TABLE):
        return _recorded(connection)
    if not any(map(tables.has_table, _FIRST)):
        return None
    for name, columns in _FIRST.items():
        if not tables.has_table(name) or not columns <= {it["name"] for it in tables.get_columns(name)}:
            raise NotALedger()
    return 1


def _recorded(connection: Connection) -> int:
    number = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  # a constant of this module
    try:
        return int(str(number))
    except ValueError:
        raise NotALedger() from None


def existing_version(connection: Connection) -> int:
    """Return the version of the ledger's schema.

    Raises:
        NothingToAudit: there is no ledger in this database yet.
        NotALedger: the database has other tables with the ledger's names.
    """
    found = version(connection)
    if found is None:
        raise NothingToAudit("The ledger has no tables yet; a worker makes them when it starts.")
    return found


def check(connection: Connection) -> None:
    """Check that this release can use the ledger.

    Raises:
        NothingToAudit: there is no ledger in this database yet.
        SchemaTooOld: the ledger must be upgraded first.
        SchemaTooNew: the ledger needs a newer release.
        NotALedger: the database has other tables with the ledger's names.
    """
    found = existing_version(connection)
    if found < VERSION:
        raise SchemaTooOld(
            "Ledger schema is version {found}, this release needs {version}. Run `baozi ledger upgrade`.",
            found=found,
            version=VERSION,
        )
    if found > VERSION:
        needed = connection.execute(select(identity.c.compatible_from)).scalar_one()
        if needed > VERSION:
            raise SchemaTooNew(
                "Ledger schema is version {found}, which needs a release for version {needed} or"
                " later; this release is for version {version}. Install the release that upgraded"
                " the ledger.",
                found=found,
                needed=needed,
                version=VERSION,
            )


def make(connection: Connection) -> None:
    """Create the ledger if the database has none. Check that this release can use it.

    If several workers start together, one creates the ledger and the others wait.

    Args:
        connection: a connection in a transaction that writes.

    Raises:
        SchemaTooOld: the ledger must be upgraded first.
        SchemaTooNew: the ledger needs a newer release.
        NotALedger: the database has other tables with the ledger's names.
    """
    _lock(connection)
    if version(connection) is None:
        _migrate(connection)
    check(connection)


def upgrade(connection: Connection) -> int | None:
    """Upgrade the ledger to the version that this release needs. Create it if there is none.

    Args:
        connection: a connection in a transaction that writes. All migrations are done in it.

    Returns:
        The version before, or None if there was no ledger.

    Raises:
        SchemaTooNew: the ledger needs a newer release.
        NotALedger: the database has other tables with the ledger's names.
    """
    _lock(connection)
    before = version(connection)
    if before is None or before < VERSION:
        if before == 1 and not inspect(connection).has_table(VERSION_TABLE):
            from alembic import command  # noqa: PLC0415  # 10 MB that few commands need

            command.stamp(_alembic(connection), "1")
        _migrate(connection)
    check(connection)
    return before


def _lock(connection: Connection) -> None:
    # A transaction that writes has SQLite's write lock already.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  # 10 MB that few commands need

    command.upgrade(_alembic(connection), str(VERSION))


def _alembic(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415  # 10 MB that few commands need

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "baozi:ledger_migrations")
    return config
