"""What was eaten, and the orders: the tables of the releases before the schema had versions."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "eaten",
        sa.Column("baozi_id", sa.String, primary_key=True),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("producer", sa.String, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("consumer", sa.String, nullable=False),
        sa.Column("machine", sa.String, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("eaten_at", sa.Float, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
    )
    op.create_index("ix_eaten_run", "eaten", ["run"])
    op.create_table(
        "orders",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("producer", sa.String, primary_key=True),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("attempted", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.Float, nullable=False),
    )
