"""The demo in one process, on kombu's in-memory transport, for machines that cannot run a broker.

The worker and the producers are threads. Nothing is confirmed, no other process sees the queue, and its
messages are lost when the process ends. So it shows how the parts work together, but proves nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Annotated

import typer
from celery.app.trace import setup_worker_optimizations
from celery.contrib.testing.worker import start_worker

from baozi import command_line
from baozi.audit import settled_audit
from baozi.ledger import Ledger
from baozi.lines import say
from baozi.model import Baozi
from baozi.settings import settings
from baozi.workload import Workload
from producers.producer import produce
from tasks import app
from tasks.app import reliable


def run_all(
    run: Annotated[str, typer.Option(help="Name of the run.")],
    pace: Annotated[float, typer.Option(min=0, help="The course's seconds are multiplied by this.")],
) -> None:
    """Run the course's producers and one worker in this process until all is eaten."""
    workload = Workload(run=run).paced(pace)
    ledger = Ledger(settings().ledger).open()
    # A task reads its worker's name from a variable of the process, so there can be only one worker.
    consumer = f"{workload.consumers[0]}@memory"
    setup_worker_optimizations(app, consumer)
    with start_worker(app, pool="solo", perform_ping_check=False, hostname=consumer):
        with ThreadPoolExecutor(len(workload.producers)) as threads:
            done = [threads.submit(_produce, name, workload) for name in workload.producers]
        for one in done:
            one.result()
        settled_audit(ledger, run, lambda: None, workload.deadline, len(workload.producers))
        ledger.close()


def _produce(name: str, workload: Workload) -> None:
    with reliable.order(name, run=workload.run, stop=Event(), on_accepted=_print_line) as order:
        produce(order, workload.per_producer, workload.make_seconds)


def _print_line(baozi: Baozi) -> None:
    say(baozi.made_line)


if __name__ == "__main__":
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command()(run_all)
    command_line.run(command)
