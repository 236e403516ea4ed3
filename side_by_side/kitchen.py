"""A kitchen for faults: producers that put without an end, workers, a broker behind a network of ours."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self, TypeVar

from baozi.audit import Audit
from baozi.errors import BaoziError, BrokerError, ExitCode
from baozi.ledger_url import file_url
from local_mp.guarded import DeadlinePassed
from side_by_side.actors import start_worker
from side_by_side.books import Books
from side_by_side.crew import Crew, Member
from side_by_side.faults.proxy import Proxy
from side_by_side.menu import Menu
from side_by_side.own_broker import queue_state
from side_by_side.stage import ActorFailed
from side_by_side.targets.target import Target

Seen = TypeVar("Seen")

#: The run that all work is done in.
RUN = "chaos"
#: Seconds between the heartbeats of a worker: a broker misses one that is silent for twice as long.
_HEARTBEAT = 2
#: Seconds that a put may take: longer than any fault but one that is asked to last.
_PUT = 60
#: Seconds: between two looks; to be ready; for work to go on after a fault; to close an order; for all that
#: was accepted to be eaten.
_LOOK_EVERY, _READY, GOES_ON, _CLOSED, _SETTLED = 0.05, 90, 90, 90, 120
#: Seconds in which a child that was left without its broker has committed what it had in hand.
_LAST_COMMIT = 0.5


class Broken(BaoziError):
    """What a fault may not break is broken."""

    exit_code = ExitCode.LOSS


class Kitchen:
    """Everybody at work. All processes are gone when it is left."""

    def __init__(self, target: Target, folder: Path, menu: Menu, on_line: Callable[[str], object]) -> None:
        """Take the broker, a folder for ledger, journals and logs, and how to work.

        Args:
            target: the broker; its queues are declared by the workers where they are missing.
            folder: this kitchen's own.
            menu: how to work.
            on_line: told what is of interest, in a line.
        """
        self.broker = target
        self.folder = folder
        self.menu = menu
        self.books = Books(folder, RUN)
        self.say = on_line
        self._stack = ExitStack()
        self._names = 0
        self._closing = False
        self._sent_home: set[int] = set()
        self._ordered: set[str] = set()
        self._placed: dict[str, int] = {}
        self._eaten_at_start: dict[str, int] = {}
        self._marked = (0.0, 0)
        self._recovered: float | None = None

    def __enter__(self) -> Self:
        """Start everybody; return when the workers are ready and something was eaten.

        Raises:
            DeadlinePassed, ActorFailed: they are not ready.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self.proxies = [
                stack.enter_context(closing(Proxy(partial(self.broker.address, node), node)))
                for node in range(self.broker.nodes)
            ]
            output = stack.enter_context(Path(os.devnull).open("w"))
            self._crew = stack.enter_context(Crew(self.folder / "logs", output))
            stack.callback(self._kill_all)
            stack.callback(self.books.close)
            for name in self.menu.workers:
                self.start_worker(name)
            self.wait(lambda: self.consumers() >= len(self.menu.workers), "the workers to be ready", _READY)
            for name in self.menu.producers:
                self.start_producer(name)
            self.wait(lambda: self.books.eaten() > 0, "the first baozi to be eaten", _READY)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everybody."""
        self._stack.close()

    def _kill_all(self) -> None:
        """There is nothing left to do in good order."""
        for member in self._crew.members:
            if member.process.poll() is None:
                os.killpg(member.process.pid, signal.SIGKILL)

    # Who is there.

    def workers(self) -> list[Member]:
        """The workers that are alive; at least one."""
        return self._alive("worker")

    def ready_workers(self) -> list[Member]:
        """Those that have eaten since their start: who loses a pool process before that gives up and ends."""
        return self.wait(
            lambda: [
                it for it in self.workers() if self.books.eaten(it.name) > self._eaten_at_start[it.name]
            ],
            "a worker to be ready",
            _READY,
        )

    def producers(self) -> list[Member]:
        """The producers that are alive; at least one."""
        return self._alive("producer")

    def _alive(self, role: str) -> list[Member]:
        found = [
            it
            for it in self._crew.members
            if it.role == role and it.process.poll() is None and it.process.pid not in self._sent_home
        ]
        if not found:
            raise ActorFailed(f"There is no {role} left.")
        return found

    def new_name(self, what: str) -> str:
        """A name that nobody has."""
        self._names += 1
        return f"{what}-{self._names}"

    def start_worker(self, name: str, before: Sequence[str] = (), folder: Path | None = None) -> Member:
        """Start a worker; as :func:`side_by_side.actors.start_worker`."""
        self._keep_log("worker", name)
        self._eaten_at_start[name] = self.books.eaten(name)
        return start_worker(
            self._crew,
            name,
            self._environment(name),
            self.menu.processes,
            changes=[f"broker_heartbeat={_HEARTBEAT}"],
            before=before,
            folder=folder,
        )

    def start_producer(
        self, name: str, count: int = 0, *, resume: bool = False, before: Sequence[str] = ()
    ) -> Member:
        """Start a producer: of ``count`` baozi at once, or, of 0, without an end at the menu's pace."""
        self._keep_log("producer", name)
        self._ordered.add(name)
        order = ["--name", name, "--run", RUN, "--count", str(count), *(["--resume"] if resume else [])]
        order += [] if count else ["--interval", str(self.menu.make_seconds)]
        program = [*before, "producers", *order, "--json"]
        return self._crew.start("producer", name, program, self._environment(name))

    def send_home(self, member: Member) -> None:
        """Stop a worker in good order.

        Raises:
            DeadlinePassed: it does not end.
        """
        self._sent_home.add(member.process.pid)
        member.process.terminate()
        limit = self.menu.soft_shutdown_seconds + _CLOSED
        self.wait(lambda: member.process.poll() is not None, f"{member.name} to go home", limit)

    def _keep_log(self, role: str, name: str) -> None:
        """Of who is started again, the log so far gets another name."""
        log = self._crew.logs / f"{role}-{name}.log"
        if log.exists():
            log.rename(log.with_suffix(f".{time.monotonic_ns()}.log"))

    def _environment(self, name: str) -> dict[str, str]:
        # Each begins with a node of its own, as behind a load balancer.
        self._placed.setdefault(name, len(self._placed))
        ports = [proxy.port for proxy in self.proxies]
        first = self._placed[name] % len(ports)
        chosen = {
            "broker_url": self._url(ports[first:] + ports[:first]),
            "broker_timeout": _PUT + self.menu.away_seconds,
            # Longer than it is waited for, so that who does not end is still there to say where it is.
            "stop_timeout": 2 * _CLOSED,
            "home": self.books.home,
            "ledger_url": file_url(self.books.ledger_file).render_as_string(),
            "journal": self.books.eaten_folder,
            "eat_seconds": self.menu.eat_seconds,
            "tray": self.menu.tray,
            "soft_shutdown_timeout": self.menu.soft_shutdown_seconds,
        }
        ours = {f"BAOZI_{name.upper()}": str(value) for name, value in chosen.items()}
        # Who is aborted writes down where it was.
        return {**ours, "PYTHONFAULTHANDLER": "1"}

    def _url(self, ports: Sequence[int]) -> str:
        login = self.broker.login
        return ";".join(f"amqp://{login}@127.0.0.1:{port}{self.broker.path}" for port in ports)

    # What faults must know.

    @property
    def in_doubt(self) -> int:
        """What may come again when every connection is lost: all that is held, a put of each producer."""
        return self.menu.held * len(self.workers()) + len(self.menu.producers)

    def consumers(self) -> int:
        """How many consumers the queue has; none while the broker cannot be asked."""
        return self._asked()[1]

    def waiting(self) -> int:
        """How many baozi wait in the queue; none while the broker cannot be asked."""
        return self._asked()[0]

    def dead(self) -> int:
        """How many dead letters there are."""
        return self._asked("baozi.dead")[0]

    def _asked(self, queue: str = "baozi") -> tuple[int, int]:
        """Ask the broker past our network, whatever its weather."""
        ports = [self.broker.address(node)[1] for node in range(self.broker.nodes)]
        for port in ports:
            try:
                return queue_state(self._url([port]), queue)
            except BrokerError:
                continue
        return 0, 0

    # Time.

    def mark(self) -> None:
        """Note the moment from which on the time counts until work goes on."""
        self._marked = (time.monotonic(), self.books.eaten())
        self._recovered = None

    def recount(self) -> None:
        """What is eaten by now was in somebody's hand at the mark, and shows nothing."""
        time.sleep(_LAST_COMMIT)
        self._marked = (self._marked[0], self.books.eaten())

    def wait_for_work(self) -> None:
        """Return when baozi are put and eaten.

        Raises:
            DeadlinePassed, ActorFailed: they are not.
        """
        eaten_before, written_before = self.books.eaten(), self.books.written()
        self.wait(
            lambda: self.books.eaten() > eaten_before and self.books.written() > written_before,
            "work to go on",
            GOES_ON,
        )

    def recovered_after(self) -> float:
        """Return the seconds from the mark to the first baozi eaten after it, whenever this is asked again.

        Raises:
            DeadlinePassed, ActorFailed: none is.
        """
        at, before = self._marked
        if self._recovered is None:
            self.wait(lambda: self.books.eaten() > before, "a baozi to be eaten", GOES_ON)
            self._recovered = time.monotonic() - at
        return self._recovered

    def wait_for_eating_of(self, consumer: str, seconds: float) -> None:
        """Return when ``consumer`` has eaten one more.

        Raises:
            DeadlinePassed, ActorFailed: it has not.
        """
        before = self.books.eaten(consumer)
        self.wait(lambda: self.books.eaten(consumer) > before, f"{consumer} to eat", seconds)

    def let_eat(self, count: int, seconds: float) -> None:
        """Wait until so many more are eaten, for ``seconds`` at the most."""
        enough, deadline = self.books.eaten() + count, time.monotonic() + seconds
        while self.books.eaten() < enough and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)

    def pause(self, seconds: float) -> None:
        """Let so much time go by, and see that everybody is well meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _LOOK_EVERY))

    def wait(self, seen: Callable[[], Seen], what: str, seconds: float) -> Seen:
        """Return what ``seen`` returns as soon as it is true.

        Raises:
            DeadlinePassed: it was not for ``seconds``.
            ActorFailed: somebody ended with an error meanwhile.
        """
        deadline = time.monotonic() + seconds
        while not (result := seen()):
            if not self._closing:
                self.check()
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"Waited {seconds:g} s in vain for {what}.")
            time.sleep(_LOOK_EVERY)
        return result

    def check(self) -> None:
        """See that nobody has ended by an error of his own; who was killed is nobody's fault.

        Raises:
            ActorFailed: somebody has; says who, and the last words.
        """
        for member in self._crew.members:
            code = member.process.poll() or 0
            if code <= 0 or member.process.pid in self._sent_home:
                continue
            raise ActorFailed(f"The {member.role} {member.name} failed ({code}): {member.last_words()}")

    # The end.

    def close_orders(self) -> None:
        """Have the producers close their orders. The log of one that does not says what it is doing instead.

        Raises:
            DeadlinePassed: a producer does not end.
        """
        self._closing = True  # whoever has failed, the sums shall be done
        producers = [it for it in self._crew.members if it.role == "producer" and it.process.poll() is None]
        for member in producers:
            self._sent_home.add(member.process.pid)
            member.process.terminate()
        try:
            self.wait(
                lambda: all(it.process.poll() is not None for it in producers),
                "the producers to close their orders",
                _CLOSED,
            )
        except DeadlinePassed:
            for member in producers:
                if member.process.poll() is None:
                    member.process.send_signal(signal.SIGABRT)
            raise

    def audit(self) -> Audit:
        """Wait until all is eaten, and audit it.

        Raises:
            LedgerError: there is nothing to audit.
        """
        return self.books.audit(len(self._ordered), _SETTLED)


def choose(chance: Random, among: Sequence[Seen]) -> Seen:
    """One of them, by a single draw, whatever their number: what is drawn later is the same in a replay."""
    return among[int(chance.random() * len(among))]
