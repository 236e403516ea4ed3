"""Orders have an id: two orders of one name are told apart, and one that is opened again is open."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add a column that older releases leave empty, and two tables that they do not look at."""
    op.add_column("eaten", sa.Column("order_id", sa.String))
    op.create_table(
        "order_sessions",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("producer", sa.String, primary_key=True),
        sa.Column("order_id", sa.String, primary_key=True),
        sa.Column("opened", sa.Integer, nullable=False),
        sa.Column("closed", sa.Integer, nullable=False),
        sa.Column("attempted", sa.BigInteger, nullable=False),
        sa.Column("unknown", sa.String, nullable=False),
        sa.Column("told_at", sa.Float, nullable=False),
    )
    op.create_table(
        "refused",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("producer", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("order_id", sa.String, primary_key=True),
        sa.Column("refused_at", sa.Float, nullable=False),
    )
