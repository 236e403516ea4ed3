"""The ledger's schema: its tables, its versions and the upgrade from one version to the next.

Each version is one migration in ``baozi/ledger_migrations/versions``, numbered from 1. Version 1 is that of
the releases before there were versions. A release needs one version, :data:`VERSION`:

- An older ledger is an error until ``baozi ledger upgrade`` has run. No worker upgrades a ledger at its
  start: workers of an older release may still use it.
- A newer ledger is used unless its ``compatible_from`` is above :data:`VERSION`. A migration is compatible if
  the older release works after it: it adds tables, or columns that have a default. A migration that is not
  must set ``ledger_identity.compatible_from`` to its own version.

So in a rolling deploy the ledger is upgraded first, then the workers, one by one.
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

# Alembic takes 10 MB: it is imported where a ledger is made or upgraded, and not by every command.
if TYPE_CHECKING:
    from alembic.config import Config

#: The version that this release needs: the number of the newest migration.
VERSION = 4

#: Alembic's own table. Its default name would be that of another application in the same database.
VERSION_TABLE = "ledger_version"

#: Any number that no other program on the same database takes for its advisory lock.
_SCHEMA_LOCK = 0xBA021

#: Tables and columns by which a ledger of version 1 is known: it does not say its version.
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
    # Its order, or empty if the message names none. NULL: a worker of an older release ate it.
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

#: Orders that have an id. Those without one, of older releases and other clients, are in ``orders``.
order_sessions = Table(
    "order_sessions",
    metadata,
    Column("run", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("order_id", String, primary_key=True),
    # The last session that was opened, and that was closed: the order is open while the first is greater.
    Column("opened", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    # As the last session that was closed told them.
    Column("attempted", BigInteger, nullable=False),
    Column("unknown", String, nullable=False),
    Column("told_at", Float, nullable=False),
)

#: Baozi that were not eaten since another order of the same run and producer has their number.
refused = Table(
    "refused",
    metadata,
    Column("run", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("order_id", String, primary_key=True),
    Column("refused_at", Float, nullable=False),
)

#: What tasks did, each key of a task once. A row is visible when its transaction has committed: then the task
#: is done. What older releases ate is in ``eaten`` alone.
done = Table(
    "done",
    metadata,
    Column("task", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("done_at", Float, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    # JSON; NULL for None.
    Column("result", Text),
)

#: One row: the ledger's identity, the oldest version of the schema whose release can use this ledger, and the
#: name of the queue to which the ledger belongs (NULL: none yet).
identity = Table(
    "ledger_identity",
    metadata,
    Column("id", String, primary_key=True),
    Column("compatible_from", Integer, nullable=False),
    Column("queue", Text),
)


def version(connection: Connection) -> int | None:
    """Return the version of the ledger's schema, or None where there is no ledger.

    Raises:
        NotALedger: the database has tables of these names that are not the ledger's.
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
        NotALedger: as :func:`version` says.
    """
    found = version(connection)
    if found is None:
        raise NothingToAudit("The ledger has no tables yet; a worker makes them when it starts.")
    return found


def check(connection: Connection) -> None:
    """See that this release can use the ledger.

    Raises:
        NothingToAudit: there is no ledger in this database yet.
        SchemaTooOld: the ledger must be upgraded first.
        SchemaTooNew: the ledger is for newer releases only.
        NotALedger: as :func:`version` says.
    """
    found = existing_version(connection)
    if found < VERSION:
        raise SchemaTooOld(
            f"Ledger schema is version {found}, this release needs {VERSION}. Run `baozi ledger upgrade`."
        )
    if found > VERSION:
        needed = connection.execute(select(identity.c.compatible_from)).scalar_one()
        if needed > VERSION:
            raise SchemaTooNew(
                f"Ledger schema is version {found}, which needs a release for version {needed} or later; this"
                f" release is for version {VERSION}. Install the release that upgraded the ledger."
            )


def make(connection: Connection) -> None:
    """Make the ledger if the database has none; else see that this release can use it.

    Of workers that start together one makes it, and the others wait. ``connection`` must be in a transaction
    that writes.

    Raises:
        LedgerError: as :func:`check` says.
    """
    _lock(connection)
    if version(connection) is None:
        _migrate(connection)
    check(connection)


def upgrade(connection: Connection) -> int | None:
    """Bring the ledger to the version that this release needs, in the transaction of ``connection``.

    Returns:
        The version it had before, or None where there was no ledger; it is made then.

    Raises:
        SchemaTooNew, NotALedger: as :func:`check` says.
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
    # In SQLite a transaction that writes has the lock already.
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
