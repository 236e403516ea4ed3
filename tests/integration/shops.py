"""A shop that runs somewhere: its workers, what its functions did, and a client of it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from celery import Celery
from kombu import Connection
from sqlalchemy import NullPool, create_engine, func, select

from baozi.ledger import Ledger
from baozi.process_group import StartedProcess
from baozi.topology import Topology
from tests.integration.place import Place
from tests.integration.rabbitmq import queue_state
from tests.integration.shop import attempts, payments
from tests.waiting import wait_until

QUEUE = "shop"


class Shop:
    """The app of :mod:`tests.integration.shop`, on a broker and a ledger of its own."""

    def __init__(self, place: Place, ledger_url: str | None = None) -> None:
        """Run it in ``place``; its ledger is at ``ledger_url``, default SQLite in the place's folder."""
        self.place = place
        self.ledger_url = ledger_url or place.ledger_url
        self.runs = place.home / "what-ran"
        self.runs.touch()
        # Each connection is closed when it has been used: a test need not close the shop.
        self.engine = create_engine(self.ledger_url, poolclass=NullPool)
        with closing(Ledger(self.ledger_url).open()):
            payments.metadata.create_all(self.engine)
        with Connection(place.url, connect_timeout=5) as connection:
            Topology(QUEUE).declare(connection)

    def environment(self, **more: object) -> dict[str, str]:
        """The variables that the app's processes have."""
        mine = {"SHOP_BROKER": self.place.url, "SHOP_LEDGER": self.ledger_url, "SHOP_RUNS": str(self.runs)}
        return {**mine, **{name.upper(): str(value) for name, value in more.items()}}

    def consumers(self) -> int:
        """How many consumers the queue has."""
        return queue_state(self.place.url, QUEUE)[1]

    def worker(
        self,
        name: str = "cook",
        pool: str = "prefork",
        processes: int = 1,
        before: Sequence[str] = (),
        **more: object,
    ) -> StartedProcess:
        """Start a worker, by ``before``, a module that runs another; wait until it consumes, or has ended."""
        consumers = self.consumers()
        arguments = [
            *before,
            "celery",
            "--quiet",
            "-A",
            "tests.integration.shop",
            "worker",
            "-n",
            f"{name}@%h",
        ]
        options = ["-P", pool, "-c", str(processes)]
        started = self.place.process_group.start(
            "worker", name, [*arguments, *options], self.environment(**more)
        )

        def ready() -> bool:
            assert before or started.process.poll() is None, started.log.read_text()
            return self.consumers() > consumers or started.process.poll() is not None

        wait_until(ready, f"worker {name} to consume", timeout=60)
        return started

    @contextmanager
    def client(self) -> Iterator[Celery]:
        """Yield a plain Celery app that sends to the shop's queue: a client that knows nothing of us."""
        with Celery("client", broker=self.place.url, set_as_current=False) as client:
            client.conf.broker_transport_options = {"confirm_publish": True}
            yield client

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send one task as that client does; return its id."""
        with self.client() as client, client.connection_for_write() as connection:
            producer = connection.Producer()
            sent = client.send_task(
                task, args, producer=producer, exchange=QUEUE, routing_key=QUEUE, **options
            )
            return str(sent.id)

    def ran(self) -> Counter[str]:
        """How often each function ran, by what it noted."""
        return Counter(self.runs.read_text().splitlines())

    def booked(self) -> dict[str, int]:
        """The payments that the ledger's database has, by order."""
        with self.engine.connect() as connection:
            return {row.order_id: row.amount for row in connection.execute(select(payments))}

    def attempts(self) -> int:
        """How many attempts the database has."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(attempts)).scalar_one())

    def waiting(self, queue: str = QUEUE) -> int:
        """How many messages wait in ``queue``."""
        return queue_state(self.place.url, queue)[0]

    def only_dead(self) -> dict[str, Any]:
        """What the tool shows of the only dead letter."""
        (letter,) = self.dead()
        done = self.place.run("dead", "show", letter["id"], "--json", queue=QUEUE, ledger_url=self.ledger_url)
        assert done.returncode == 0, done.stderr
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    def dead(self) -> list[dict[str, Any]]:
        """What the tool lists of the dead letters."""
        done = self.place.run("dead", "list", "--json", queue=QUEUE, ledger_url=self.ledger_url)
        assert done.returncode == 0, done.stderr
        letters: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        return letters
