"""The side of RabbitMQ: the workers and producers of the main job, behind a network that can be cut."""

import os
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from baozi.broker.temporary import TemporaryBroker, consumer_count
from baozi.errors import BaoziError
from baozi.faults import signals
from baozi.faults.proxy import NetworkCondition, Proxy
from baozi.process_group import ProcessGroup, StartedProcess
from baozi.workload import Workload
from side_by_side.celery_processes import start_producer, start_worker
from side_by_side.celery_transport import CeleryRun, environment_of, settled
from side_by_side.live.side import (
    Doing,
    LivePart,
    LiveSide,
    PartCondition,
    condition_of,
    do_to_processes,
    doings_of,
    tree,
)
from side_by_side.multiprocessing_group import Role

_virtual_hosts = count()
_NAMES = {"worker": Role.CONSUMER, "producer": Role.PRODUCER}
#: The parts that are no producers or consumers.
_BROKER, _NETWORK = "RabbitMQ", "network"
#: Seconds between two checks whether the workers are ready, or all is eaten.
_CHECK_EVERY = 0.5


def _nowhere() -> AbstractContextManager[TextIO]:
    return Path(os.devnull).open("w")


class CelerySide(LiveSide):
    """Producers, RabbitMQ, and Celery workers with a ledger."""

    transport = "celery"
    # RabbitMQ needs ten seconds to start again, and its clients some to notice.
    patience = 45.0

    def __init__(self, workload: Workload, folder: Path, broker: TemporaryBroker) -> None:
        """Create a side without processes, whose journals are below ``folder``."""
        super().__init__(workload, folder)
        self._broker = broker
        self._stack = ExitStack()
        self._url = self._direct_url = ""
        self._group: ProcessGroup
        self._proxy: Proxy
        self._network = self._store = PartCondition.RUNS
        self._ready = self._settled = False
        self._check_at = 0.0

    def open(self) -> None:
        """Start the workers."""
        url = self._stack.enter_context(self._broker.virtual_host(f"live-{next(_virtual_hosts)}"))
        parts = urlsplit(url)
        self._proxy = Proxy(lambda: ("127.0.0.1", parts.port or 0))
        self._stack.callback(self._proxy.close)
        login = parts.netloc.rpartition("@")[0]
        self._url = parts._replace(netloc=f"{login}@127.0.0.1:{self._proxy.port}").geturl()
        self._direct_url = url
        output = self._stack.enter_context(_nowhere())
        self._group = self._stack.enter_context(ProcessGroup(self.folder / "logs", output))
        for name in self.workload.consumers:
            self._start(Role.CONSUMER, name)
        self.step()

    def ready(self) -> bool:
        """Return whether all workers consume."""
        if not self._ready and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_EVERY
            self._ready = consumer_count(self._direct_url) >= len(self.workload.consumers)
        return self._ready

    def begin(self) -> None:
        """Start the producers."""
        for name in self.workload.producers:
            self._start(Role.PRODUCER, name)
        self.began = True
        self.step()

    def step(self) -> None:
        """Look whether all is eaten."""
        self.parts = (
            *(self._part(one) for one in self._newest()),
            LivePart(Role.STORE, _BROKER, self._store, self._doings_of_store()),
            LivePart(
                _NETWORK,
                _NETWORK,
                self._network,
                (Doing.CUT if self._network is PartCondition.RUNS else Doing.JOIN,),
            ),
        )
        if self.began and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_EVERY
            run = CeleryRun(self.workload, self.folder, self._group, self._broker, (), {})
            self._settled = settled(run)

    def do(self, doing: Doing, part: LivePart) -> None:
        """Do it to a process, RabbitMQ or the network."""
        if doing in {Doing.CUT, Doing.JOIN}:
            self._cut(doing is Doing.CUT)
        elif part.role == Role.STORE:
            self._do_to_store(doing)
        elif doing is Doing.RESTART:
            self._start(Role(part.role), part.name, again=True)
        else:
            process = next(
                it for it in self._newest() if (_NAMES[it.role], it.name) == (part.role, part.name)
            ).process
            do_to_processes(doing, tree(process))
            if doing is Doing.KILL:
                process.wait()

    def is_over(self) -> bool:
        """Return whether all that was accepted is eaten, and no producer runs."""
        return self._settled

    def close(self) -> None:
        """Kill all processes."""
        if hasattr(self, "_group"):
            for started in self._group.processes:
                signals.kill(tree(started.process))
        self._stack.close()

    def _start(self, role: Role, name: str, again: bool = False) -> None:
        environment = environment_of(self._url, self.workload, self.folder, 1)
        if role is Role.CONSUMER:
            start_worker(self._group, name, environment)
        else:
            start_producer(self._group, name, self.workload, environment, resume=again)

    def _cut(self, cut: bool) -> None:
        self._proxy.set_condition(NetworkCondition(up=not cut, down=not cut))
        if cut:
            self._proxy.cut()
        self._network = PartCondition.CUT if cut else PartCondition.RUNS

    def _doings_of_store(self) -> tuple[Doing, ...]:
        if not self._broker.can_be_killed:
            return ()
        return {PartCondition.RUNS: (Doing.KILL,), PartCondition.KILLED: (Doing.RESTART,)}.get(
            self._store, ()
        )

    def _do_to_store(self, doing: Doing) -> None:
        if doing is Doing.KILL:
            self._broker.kill()
            self._store = PartCondition.KILLED
            return
        self._store = PartCondition.STARTS
        # It takes ten seconds, in which the reader may do other things.
        threading.Thread(target=self._revive, daemon=True).start()

    def _revive(self) -> None:
        try:
            self._broker.revive()
        except BaoziError as error:
            self.problem, self._store = error.sentence, PartCondition.KILLED
        else:
            self._store = PartCondition.RUNS

    def _newest(self) -> list[StartedProcess]:
        """Return of each role and name the process that was started last."""
        return list({(one.role, one.name): one for one in self._group.processes}.values())

    def _part(self, one: StartedProcess) -> LivePart:
        code = one.process.poll()
        condition = condition_of(one.process if code is None else None, code)
        # Of a producer that gave up, too: `--resume` goes on where it was.
        if code is not None and code > 0:
            condition = PartCondition.KILLED
        return LivePart(_NAMES[one.role], one.name, condition, doings_of(condition, restartable=True))
