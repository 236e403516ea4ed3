"""All commands of ``baozi``."""

import typer

from baozi.audit_command import audit
from baozi.broker.command import app as broker
from baozi.dead_letters.command import app as dead
from baozi.ledger_command import app as ledger
from local_mp.command import app as local
from producers.command import produce
from side_by_side.chaos_command import chaos
from side_by_side.command import demo
from side_by_side.compare_command import compare
from side_by_side.gather_command import gather
from side_by_side.report_command import report

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command()(demo)
app.command()(produce)
app.command()(compare)
app.command()(chaos)
app.command()(gather)
app.command()(report)
app.command()(audit)
app.add_typer(local, name="local")
app.add_typer(dead, name="dead")
app.add_typer(broker, name="broker")
app.add_typer(ledger, name="ledger")


@app.callback()
def baozi() -> None:
    """Producers put baozi on a RabbitMQ queue, Celery workers eat them, and an audit proves it."""
