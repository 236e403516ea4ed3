"""The ledger gets an identity, and says which older releases can still use it."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the table of the identity, and its one row. Version 1 does not look at it."""
    identity = op.create_table(
        "ledger_identity",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("compatible_from", sa.Integer, nullable=False),
    )
    op.bulk_insert(identity, [{"id": str(uuid4()), "compatible_from": 1}])
