"""Does one workload on one transport, whichever it is."""

from pathlib import Path

from baozi.broker.temporary import TemporaryBroker
from baozi.workload import Workload
from side_by_side.celery_transport import run_celery
from side_by_side.local_transport import run_local
from side_by_side.observed_run import OnTick
from side_by_side.remote_mp_transport import run_queue
from side_by_side.transports import Program, Transport


def run_transport(
    transport: Transport,
    broker: TemporaryBroker | None,
    workload: Workload,
    folder: Path,
    on_tick: OnTick,
    without: str | None = None,
) -> None:
    """Do ``workload`` on ``transport``. Each process writes a journal below ``folder``.

    Args:
        transport: the transport. One that is not local needs a ``broker``.
        broker: the broker.
        workload: what to do.
        folder: the folder of this run.
        on_tick: called about fifty times a second.
        without: the setting of Celery's processes that is removed (:mod:`side_by_side.removed_settings`).

    Raises:
        DeadlinePassed, ProcessFailed: see MultiprocessingGroup.wait.
        BrokerAway: the broker does not answer.
    """
    if broker is None or transport.is_local:
        run_local(transport.name, workload, folder, on_tick)
    elif transport.program is Program.QUEUE:
        run_queue(broker, workload, folder, on_tick)
    else:
        run_celery(broker, workload, folder, on_tick, tray=transport.tray, without=without)
