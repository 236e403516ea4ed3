"""Finds a Celery app as Celery does, and reads its settings, tasks and queues. Connects to nothing."""

import re
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.app.utils import find_app
from celery.utils.imports import cwd_in_path

from baozi.broker_url import safe_url
from baozi.doctor import source
from baozi.doctor.facts import App, Container, QueueFacts, Task
from baozi.errors import AppNotFound, BaoziError

#: Celery's own variables that come before the app's settings, and the setting of each.
_OVERRIDES = {
    "CELERY_BROKER_URL": ("broker_url", "broker_host"),
    "CELERY_BROKER_READ_URL": ("broker_read_url",),
    "CELERY_BROKER_WRITE_URL": ("broker_write_url",),
}
#: A user and a password in any URL.
_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@")
_SITE_PACKAGES = tuple(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib"))


def masked(text: object) -> str:
    """Return ``text`` without the passwords of its URLs."""
    return _PASSWORD.sub(r"\1:***@", str(text))


def load(name: str) -> Celery:
    """Return the app that Celery finds under ``name``, with its task modules imported.

    Args:
        name: what ``celery -A`` takes: ``module``, ``module:app`` or ``package``.

    Raises:
        AppNotFound: it cannot be imported, or is no Celery app. Says the error's own type and message.
    """
    try:
        # What the app prints while it is imported must not be between the lines of our result.
        with redirect_stdout(sys.stderr), cwd_in_path():
            app = find_app(name)
            if not isinstance(app, Celery):
                raise AppNotFound(
                    "The app {name!r} is not a Celery app, but of type {kind}.",
                    name=name,
                    kind=type(app).__name__,
                )
            loader: Any = app.loader
            loader.import_default_modules()
            app.finalize()
    except (BaoziError, KeyboardInterrupt):
        raise
    except BaseException as error:
        said = masked(error).strip().splitlines()
        why = f": {said[0].rstrip('.')}" if said else ""
        raise AppNotFound(
            "The app {name!r} cannot be imported: {kind}{why}.", name=name, kind=type(error).__name__, why=why
        ) from None
    return app


def read(app: Celery, name: str, broker_url: str | None = None) -> App:
    """Return what is found out about ``app`` without a connection.

    Args:
        app: with its task modules imported.
        name: what the user calls it.
        broker_url: the broker to look at; default: that of the app.

    Raises:
        BaoziError: the app's settings cannot be read.
    """
    conf: Any = app.conf
    options: Any = flatten(NAMESPACES)
    settings = {key: conf.get(key, option.default) for key, option in options}
    reliable = getattr(app, "reliable", None)
    url = broker_url or url_of(app)
    tasks = tuple(_tasks(app))
    packages = _own_packages(name, app)
    return App(
        name=name,
        settings=settings,
        tasks=tasks,
        queues=tuple(_queues(app, tasks)),
        calls=tuple(source.calls_of(source.loaded(), packages)),
        scheme=urlsplit(url).scheme.partition("+")[0] or "amqp",
        overrides=tuple(_overrides(conf)),
        reliable=reliable is not None,
        batch=reliable.largest_batch if reliable is not None else 1,
    )


def url_of(app: Celery) -> str:
    """Return the URL of the broker that the app's workers use, password and all: not for a log."""
    url: Any = app.conf.broker_read_url
    if isinstance(url, list | tuple):
        url = ";".join(url)
    return str(url or "amqp://guest:guest@localhost:5672//")


def container() -> Container | None:
    """Return what can be seen of this container; None if its first process is not a Celery worker."""
    with suppress(psutil.Error, OSError):
        first = psutil.Process(1)
        words = [Path(word).name for word in first.cmdline()]
        if "celery" in words and "worker" in words:
            return Container(first.environ().get("REMAP_SIGTERM", ""))
    return None


def _tasks(app: Celery) -> Iterable[Task]:
    registry: Any = app.tasks
    for name, task in sorted(registry.items()):
        if name.startswith("celery."):
            continue
        routed: dict[str, Any] = {}
        with suppress(Exception):  # a route that is wrong is an error of the call
            router: Any = app.amqp.router
            routed = router.route({}, name, task_type=task)
        yield Task(
            name=name,
            reliable=getattr(task, "reliable", None) is not None,
            acks_late=bool(task.acks_late),
            reject_on_worker_lost=bool(task.reject_on_worker_lost),
            retry_on_worker_lost=bool(getattr(task, "retry_on_worker_lost", False)),
            acks_on_failure=bool(task.acks_on_failure),
            acks_on_timeout=bool(task.acks_on_timeout),
            time_limit=task.time_limit,
            soft_time_limit=task.soft_time_limit,
            ignore_result=bool(task.ignore_result),
            autoretry=bool(getattr(task, "autoretry_for", ())),
            mandatory=bool(getattr(task, "mandatory", False) or routed.get("mandatory")),
        )


def _queues(app: Celery, tasks: Iterable[Task]) -> Iterable[QueueFacts]:
    """Yield the queues that a worker consumes, with those that routes make up. Call it after the tasks."""
    reliable = getattr(app, "reliable", None)
    guarded = reliable.topology.name if reliable is not None else None
    tasks = tuple(tasks)
    only_reliable = bool(tasks) and all(task.reliable for task in tasks)
    amqp: Any = app.amqp
    queues: dict[str, Any] = dict(amqp.queues)
    declared = {getattr(it, "name", it) for it in app.conf.task_queues or ()}
    for name, queue in sorted(queues.items()):
        if only_reliable and name != guarded:
            continue  # no task of the app sends there
        yield QueueFacts(
            name=name,
            arguments=dict(queue.queue_arguments or {}),
            exchange_type=str(getattr(queue.exchange, "type", "") or "direct"),
            made_by_celery=name not in declared and name != guarded,
            known=not queue.no_declare,
            reliable=name == guarded,
            declared_type=(queue.queue_arguments or {}).get("x-queue-type"),
        )


def _overrides(conf: Any) -> Iterable[str]:
    environment = psutil.Process().environ()
    for variable, names in _OVERRIDES.items():
        given, own = environment.get(variable), conf.first(*names) if names[1:] else conf.get(names[0])
        own = own or (conf.first("broker_url", "broker_host") if given else None)
        if given and own and given != own:
            yield f"{variable}={safe_url(given)}, and the app's own setting is {safe_url(str(own))}"


def _own_packages(name: str, app: Celery) -> frozenset[str]:
    """Return the packages of the app and of its tasks, but for those that are installed beside it."""
    modules = {name.partition(":")[0]}
    registry: Any = app.tasks
    for task in registry.values():
        module = sys.modules.get(task.__module__)
        file = Path(getattr(module, "__file__", None) or "/")
        ours = task.__module__.partition(".")[0] == __name__.partition(".")[0]
        if not ours and not any(file.is_relative_to(folder) for folder in _SITE_PACKAGES):
            modules.add(task.__module__)
    return frozenset(_package(module) for module in modules)


def _package(module: str) -> str:
    loaded = sys.modules.get(module)
    return module if hasattr(loaded, "__path__") else module.rpartition(".")[0] or module
