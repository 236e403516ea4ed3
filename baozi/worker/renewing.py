"""The worker's step that regularly records for other machines that its SQLite ledger is in use."""

from typing import Any

from celery.bootsteps import StartStopStep

from baozi import one_machine
from baozi.errors import AnotherMachine


class LedgerUseRenewal(StartStopStep):
    """Renews the record of the ledger's use while the worker's event loop runs."""

    def register_with_event_loop(self, _worker: Any, hub: Any) -> None:
        """Set the timer in ``hub``. A new connection needs a new timer."""
        hub.timer.call_repeatedly(one_machine.RENEW_EVERY, _renew)


def _renew() -> None:
    try:
        one_machine.renew()
    except AnotherMachine as error:
        from baozi.worker.startup import exit_with_error  # noqa: PLC0415  # it loads what only a worker needs

        exit_with_error(error)
