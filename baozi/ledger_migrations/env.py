"""Alembic runs this: it migrates within the transaction that :mod:`baozi.ledger_schema` began."""

from alembic import context

from baozi.ledger_schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
