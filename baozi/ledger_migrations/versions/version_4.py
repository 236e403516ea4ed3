"""What tasks did: one row for each task and key, with the result that a second delivery gets.

The ledger says to which queue it belongs.
"""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Make a table and a column that older releases do not look at. What they eat is in ``eaten`` alone."""
    op.create_table(
        "done",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("done_at", sa.Float, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("result", sa.Text),
    )
    op.add_column("ledger_identity", sa.Column("queue", sa.Text))
