"""Alembic's folder: one migration for each version of the ledger's schema, in ``versions``."""
