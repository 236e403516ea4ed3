"""The table into which the tasks of the measurement "own insert" write one row each."""

from sqlalchemy import URL, Column, Float, Integer, MetaData, Table, create_engine, text

metadata = MetaData()
bought = Table("bought", metadata, Column("number", Integer), Column("made_at", Float))


def make(url: URL) -> None:
    """Create the table, as both contenders find it. An SQLite file gets the ledger's journal mode, WAL."""
    url = url.set(drivername="postgresql+psycopg") if url.drivername.startswith("postgresql") else url
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("PRAGMA journal_mode=WAL"))
        metadata.create_all(connection)
    engine.dispose()
