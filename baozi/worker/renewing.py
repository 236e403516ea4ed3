"""The worker's step that tells other machines, again and again, that its SQLite ledger is in use."""

from typing import Any

from celery.bootsteps import StartStopStep

from baozi import one_machine
from baozi.errors import AnotherMachine


class LedgerUseRenewal(StartStopStep):
    """Renews the use of the ledger as long as the worker's event loop runs."""

    def register_with_event_loop(self, _worker: Any, hub: Any) -> None:
        """Have the loop of a new connection do so; the one before has lost its timers."""
        hub.timer.call_repeatedly(one_machine.RENEW_EVERY, _renew)


def _renew() -> None:
    try:
        one_machine.renew()
    except AnotherMachine as error:
        from baozi.worker.startup import exit_with_error  # noqa: PLC0415  # it loads what only a worker needs

        exit_with_error(error)
