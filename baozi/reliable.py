"""``Reliable``: adds a guarded queue, a ledger and reliable tasks to a Celery app."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from threading import Event
from typing import Any, Self, overload

from celery import Celery
from celery.signals import celeryd_init, worker_process_init
from sqlalchemy import URL, Engine

from baozi import order_tasks
from baozi.amqp.connection import broker_url, connect
from baozi.arguments import Arguments
from baozi.errors import UsageError
from baozi.ledger import Ledger
from baozi.ledger_engine import PATIENCE
from baozi.ledger_url import parsed
from baozi.model import Baozi
from baozi.order import Order
from baozi.retry import Retry
from baozi.settings import checked_queue_name, settings
from baozi.task import ReliableTask
from baozi.topology import Topology
from baozi.upstream.forking import drop_connections_after_fork
from baozi.upstream.soft_shutdown import SoftShutdown
from baozi.upstream.worker_command import end_with_named_exit_codes
from baozi.worker.configuration import CONFIRMED, LONGEST_TASK, Need, apply_requirements, celery_settings
from baozi.worker.renewing import LedgerUseRenewal

#: The largest allowed value of ``batch``.
_LARGEST_BATCH = 10_000

#: The Reliable of the app whose worker, or pool process, this process is. At most one.
_of_worker: "list[Reliable]" = []
#: By queue: in one process, two apps must not guard the same queue with two ledgers.
_guarded: dict[str, "Reliable"] = {}


class Reliable:
    """Gives a Celery app one guarded queue with a ledger. The app's other tasks and queues do not change."""

    whole_app = False
    """Whether the app was made by :meth:`from_settings`: all its settings, queues and output are Baozi's."""

    def __init__(
        self,
        app: Celery,
        queue: str,
        ledger: str | URL | Engine | None = None,
        *,
        delivery_limit: int | None = None,
        capacity: int | None = None,
    ) -> None:
        """Guard ``queue`` for ``app``. No connection is opened yet.

        Args:
            app: the Celery app. Its broker must be RabbitMQ, and its settings must not have been read yet.
            queue: the name of a queue that only this app uses. Its dead letters go to the queue
                ``QUEUE.dead``.
            ledger: the SQLAlchemy URL of an SQLite file or a PostgreSQL database, or an engine, whose URL is
                used. Default: the setting ``BAOZI_LEDGER_URL``, or an SQLite file in ``BAOZI_HOME``.
            delivery_limit: how often a message may return to the queue before it is dead-lettered. Default:
                the setting ``BAOZI_DELIVERY_LIMIT``, which is 20.
            capacity: how many messages the queue holds before it refuses more. Default: the setting
                ``BAOZI_CAPACITY``, which is no limit.

        Raises:
            UsageError: the queue's name or the ledger's URL is invalid, the app already has a Reliable, its
                settings were already read, or another app of this process guards the same queue.
        """
        try:
            self._queue = checked_queue_name(queue)
        except ValueError as error:
            raise UsageError("The queue's name {queue!r} {error}.", queue=queue, error=error) from None
        if queue in _guarded:
            other = _guarded[queue].app.main
            raise UsageError(
                "The app {other!r} in this process guards the queue {queue!r} already.",
                other=other,
                queue=queue,
            )
        self._ledger_url = _url(ledger)
        self._delivery_limit, self._capacity = delivery_limit, capacity
        self._guard(app)
        order_tasks.add(self, "baozi")
        guarded: Any = app
        guarded.amqp_cls = "baozi.upstream.routing:AMQP"
        guarded.on_after_configure.connect(self._configure, weak=False)
        _guarded[queue] = self

    @classmethod
    def from_settings(cls, app: Celery) -> Self:
        """Configure the whole app from the settings ``BAOZI_…``, and guard the queue that they name.

        The settings are read when the first one is needed, not at import. So the app can be imported where no
        broker is configured.

        Args:
            app: a Celery app without settings.

        Raises:
            UsageError: the app already has a Reliable, or its settings were already read.
        """
        reliable = cls.__new__(cls)
        reliable.whole_app = True
        reliable._guard(app)
        # Producers of earlier releases send these tasks under this prefix.
        order_tasks.add(reliable, "tasks")
        app.config_from_object(_LazySettings())
        return reliable

    def _guard(self, app: Celery) -> None:
        guarded: Any = app
        if guarded.configured:
            raise UsageError(
                "The settings of the app {app!r} were read before its Reliable was made. Make it directly"
                " after the app.",
                app=app.main,
            )
        if hasattr(app, "reliable"):
            raise UsageError(
                "The app {app!r} has a Reliable already. An app has one Reliable, with one queue and one"
                " ledger.",
                app=app.main,
            )
        self.app = app
        self.not_promised: list[Need] = []
        """The needed settings for which the app has other values, so that a guarantee does not hold."""
        self.open_order: ReliableTask
        """The task that opens an order again (:mod:`baozi.order_tasks`)."""
        self.close_order: ReliableTask
        """The task that closes an order."""
        self._ledgers: dict[int, Ledger] = {}
        self._names: set[str] = set()
        guarded.reliable = self
        guarded.events_cls = "baozi.upstream.events:Events"
        guarded.Worker = self._worker
        guarded.steps["worker"].update((SoftShutdown, LedgerUseRenewal))
        drop_connections_after_fork(app)
        end_with_named_exit_codes()

    def _configure(self, source: Any, **_: object) -> None:
        self.not_promised = apply_requirements(source)

    @overload
    def task(self, function: Callable[..., Any]) -> ReliableTask: ...

    @overload
    def task(
        self,
        function: None = None,
        *,
        name: str | None = None,
        key: Callable[..., str] | None = None,
        retry: Retry | None = None,
        batch: int | Callable[[], int | None] | None = None,
        as_list: bool = False,
        transaction_limit: float = 60,
        bind: bool = False,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], ReliableTask]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        key: Callable[..., str] | None = None,
        retry: Retry | None = None,
        batch: int | Callable[[], int | None] | None = None,
        as_list: bool = False,
        transaction_limit: float = 60,
        bind: bool = False,
        **options: Any,
    ) -> ReliableTask | Callable[[Callable[..., Any]], ReliableTask]:
        """Make a function a reliable task. This is a decorator, with or without options.

        A parameter with the annotation :class:`baozi.Transaction` receives the ledger's transaction, and one
        with :class:`baozi.Key` receives the key. All other parameters are the message's arguments. Pydantic
        checks them by their annotations. The function must return a JSON value.

        Args:
            function: the function. If it is left out, the result is a decorator with these options.
            name: the task's name. Default: Celery's name for it, made from the module and the function.
            key: a function that returns the key, a string of 1 to 255 characters. It is called with as many
                of the message's first arguments as it takes. Each key is executed once, also if several
                clients send it. Default: the Celery task id.
            retry: after which errors the task is executed again. Default: after none.
            batch: the largest number of messages that one pool process gets at once and records together, or
                a function that returns this number. A message that fails is executed again, alone. With 1
                each message is executed alone. Default: as many as the function executes in
                ``BAOZI_BATCH_MS``, 50 ms.
            as_list: whether the function takes the items of a batch in one list. Its only parameter then has
                the annotation ``list[Item]``, and each message has one ``Item`` as its argument. The function
                returns None, or a list with one result for each item. If it raises an exception, its
                transaction is rolled back, and it is called again for each item, with a list of one.
            transaction_limit: seconds that the function may hold the transaction.
            bind: whether the function's first parameter is the task, as in Celery.
            **options: other options of Celery's ``app.task``.

        Raises:
            UsageError: the function has no name and none is given, another task has this name, an annotation
                cannot be checked, or an option is out of range.
        """
        options |= {"key": key, "retry": retry, "batch": batch, "as_list": as_list}
        options["transaction_limit"] = transaction_limit
        if function is None:
            return lambda it: self._made(it, name, bind, **options)
        return self._made(function, name, bind, **options)

    def _made(
        self,
        function: Callable[..., Any],
        name: str | None,
        bind: bool,
        *,
        key: Callable[..., str] | None,
        retry: Retry | None,
        batch: int | Callable[[], int | None] | None,
        as_list: bool,
        transaction_limit: float,
        **options: Any,
    ) -> ReliableTask:
        name = self._name(function, name)
        if as_list and batch in (None, 1):
            raise UsageError("{name}: as_list needs a batch, for example batch=100.", name=name)
        if as_list and bind:
            raise UsageError(
                "{name}: as_list and bind cannot be used together, because a list has several requests.",
                name=name,
            )
        arguments = Arguments(name, function, bind, as_list)
        if isinstance(batch, int) and not 1 <= batch <= _LARGEST_BATCH:
            raise UsageError(
                "{name}: batch must be from 1 to {most}, not {batch}.",
                name=name,
                most=_LARGEST_BATCH,
                batch=batch,
            )
        if not 0 < transaction_limit <= LONGEST_TASK:
            raise UsageError(
                "{name}: transaction_limit must be above 0 and at most {most} seconds, not {given}.",
                name=name,
                most=LONGEST_TASK,
                given=transaction_limit,
            )
        # Celery would register a shared task with each app of the process, also with apps without a Reliable.
        options = {"base": ReliableTask, "shared": False, **options}
        if not issubclass(options["base"], ReliableTask):
            raise UsageError("{name}: its base must be a subclass of ReliableTask.", name=name)
        decorate: Any = self.app.task
        made: ReliableTask = decorate(
            function,
            name=name,
            bind=bind,
            reliable=self,
            arguments=arguments,
            key_of=None if key is None else staticmethod(key),
            key_arguments=_taken(name, key, arguments) if key else 0,
            retry_policy=retry,
            batch=staticmethod(batch) if callable(batch) else batch,
            as_list=as_list,
            transaction_limit=transaction_limit,
            __header__=staticmethod(arguments.header),
            **options,
        )
        self._names.add(name)
        return made

    def _name(self, function: Callable[..., Any], name: str | None) -> str:
        own = getattr(function, "__name__", "")
        if name is None:
            if not own.isidentifier():
                raise UsageError(
                    '{function!r} has no name that is allowed for a task. Give one: name="shop.charge".',
                    function=function,
                )
            gen: Any = self.app
            name = str(gen.gen_task_name(own, function.__module__))
        if name in self._names:
            raise UsageError(
                "Two reliable tasks have the name {name!r}. Give one of them another name.", name=name
            )
        return name

    def order(
        self,
        name: str,
        *,
        run: str,
        resume: bool = False,
        window: int | None = None,
        timeout: float | None = None,
        stop_timeout: float | None = None,
        stop: Event | None = None,
        on_accepted: Callable[[Baozi], object] = lambda _: None,
    ) -> Order:
        """Return an order: in its ``with`` block it puts tasks of this app, numbered and confirmed.

        Its journal is in the folder ``runs`` of ``BAOZI_HOME``. ``baozi audit RUN`` prints what became of the
        numbers.

        Args:
            name: the order's name, unique in the run. The audit shows it as the producer.
            run: the name of the run to which the order belongs.
            resume: whether to continue an order that an earlier process began.
            window: the largest number of unconfirmed messages. Default: the setting ``BAOZI_WINDOW``. If the
                queue has a capacity, it is 1.
            timeout: seconds that a put may take. Default: the setting ``BAOZI_BROKER_TIMEOUT``.
            stop_timeout: seconds after a signal within which the broker must confirm all messages. Default:
                the setting ``BAOZI_STOP_TIMEOUT``.
            stop: an event that the caller sets to stop the order. Default: the first SIGINT or SIGTERM.
            on_accepted: called with each baozi (run, producer, number and time) that the broker accepted.

        Raises:
            UsageError: a name is invalid, or the app has ``task_always_eager``, so that no message is sent.
        """
        topology = self.topology
        return Order(
            self.app,
            run,
            name,
            runs=settings().runs,
            connect=lambda left, first_node: connect(
                f"producer {name}", left, self.broker, first_node=first_node
            ),
            declare=topology.declare_for_producer,
            open_order=self.open_order,
            close_order=self.close_order,
            base=ReliableTask,
            resume=resume,
            window=topology.window(settings().window if window is None else window),
            timeout=settings().broker_timeout if timeout is None else timeout,
            stop_timeout=settings().stop_timeout if stop_timeout is None else stop_timeout,
            stop=stop,
            on_accepted=on_accepted,
        )

    @property
    def largest_batch(self) -> int:
        """The largest fixed ``batch`` of all tasks."""
        return max(size or 1 for size in self._batch_sizes())

    @property
    def has_measured_batches(self) -> bool:
        """Whether some task has no fixed batch size, so that the worker measures its function."""
        return bool(settings().batch_ms) and None in self._batch_sizes()

    def _batch_sizes(self) -> list[int | None]:
        tasks: Any = self.app.tasks
        return [tasks[name].batch_size for name in self._names]

    @property
    def topology(self) -> Topology:
        """The guarded queue and the two queues that are named after it."""
        if self.whole_app:
            return Topology.of(settings())
        limit, capacity = self._delivery_limit, self._capacity
        return Topology(
            self._queue,
            settings().delivery_limit if limit is None else limit,
            settings().capacity if capacity is None else capacity,
        )

    @property
    def ledger(self) -> URL:
        """The ledger's SQLAlchemy URL."""
        if self.whole_app or self._ledger_url is None:
            return settings().ledger
        return self._ledger_url

    def open_ledger(self) -> Ledger:
        """Return this process's ledger. Only pool processes call this, so no child inherits a connection."""
        process = os.getpid()
        if process not in self._ledgers:
            self._ledgers = {process: Ledger(self.ledger, min(PATIENCE, settings().ledger_timeout))}
        return self._ledgers[process]

    @property
    def broker(self) -> str:
        """The broker's URL. It contains the password, so it must not be logged.

        Raises:
            NoBroker: no broker is configured.
            UsageError: one of Celery's own variables names another broker.
        """
        if self.whole_app:
            return broker_url()
        urls: str | list[str] = self.app.conf.broker_write_url
        return urls if isinstance(urls, str) else ";".join(urls)

    def work(self) -> None:
        """Make :func:`of_worker` return this object. A worker calls this before its pool starts."""
        _of_worker[:] = [self]

    def _worker(self, *arguments: Any, **options: Any) -> Any:
        """Return a new worker. Celery's commands call this as ``app.Worker``."""
        where: Any = "baozi.upstream.worker:Worker"
        return self.app.subclass_with_self(where)(*arguments, **options)


def _url(ledger: str | URL | Engine | None) -> URL | None:
    if ledger is None:
        return None
    url = ledger.url if isinstance(ledger, Engine) else ledger
    try:
        return parsed(url if isinstance(url, str) else url.render_as_string(hide_password=False))
    except ValueError as error:
        raise UsageError("The ledger's URL {error}.", error=error) from None


def _taken(name: str, key: Callable[..., str], arguments: Arguments) -> int:
    """Return how many of a message's arguments ``key`` takes."""
    try:
        kinds = [it.kind for it in inspect.signature(key).parameters.values()]
    except ValueError:  # a function written in C, such as str or itemgetter("id"), has no signature
        return 1
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return arguments.count
    count = kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    count += kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if count > arguments.count:
        raise UsageError(
            "{name}: its key takes {taken} arguments, and its messages have {count}.",
            name=name,
            taken=count,
            count=arguments.count,
        )
    return count


def of(app: Any) -> Reliable:
    """Return the Reliable of ``app``, which must have one."""
    found: Reliable = app.reliable
    return found


def of_worker() -> Reliable:
    """Return the Reliable of this worker process, or of the worker whose pool process this is."""
    return _of_worker[-1]


@celeryd_init.connect
def check(instance: Any = None, conf: Any = None, options: dict[str, Any] | None = None, **_: object) -> None:
    """Check, before a worker of a guarded app starts, that the guarantees can hold."""
    # Only a worker needs these two. Other processes of the app, such as a web server, do not load them.
    from baozi.upstream import logs  # noqa: F401, PLC0415  # it listens to Celery's set-up of the log
    from baozi.worker import startup  # noqa: PLC0415  # it loads Celery's worker

    found: Reliable | None = getattr(instance.app, "reliable", None)
    if found is not None:
        found.work()
        startup.check(found, instance, conf, options or {})


@worker_process_init.connect
def confirm_in_children(**_: object) -> None:
    """In pool processes, make tasks publish with confirms and timeouts."""
    if _of_worker:
        conf = of_worker().app.conf
        conf.broker_transport_options = {**conf.broker_transport_options, **CONFIRMED}


#: Cached after the first successful read. Errors are not cached.
_settings = cache(celery_settings)


class _LazySettings(Mapping[str, Any]):
    """Celery's settings, which are read at the first use, not at import.

    If reading them fails, they are read again at the next use. Celery's ``add_defaults`` reads them only
    once: after an error, Celery would use its default settings and send to another queue.
    """

    def __getitem__(self, name: str) -> Any:
        """Return one setting."""
        return _settings()[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the settings."""
        return iter(_settings())

    def __len__(self) -> int:
        """Return the number of settings."""
        return len(_settings())
