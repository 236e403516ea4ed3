"""Contracts with Celery, kombu and py-amqp: each change of ``baozi/upstream`` is needed, and takes.

A test that fails here after an upgrade says that the library behaves otherwise now. Read what the file says,
and make the change anew, or remove it. Then enter the new versions in the file.
"""

import ast
import importlib
import inspect
import logging
import re
import subprocess
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from unittest.mock import Mock

import amqp.transport
import celery.apps.worker
import pytest
from celery import Celery
from celery.app.amqp import AMQP as CeleryAMQP
from celery.bin import worker as celerys_commands
from celery.bin.base import CLIContext
from celery.concurrency.base import BasePool
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import TaskRevokedError
from celery.platforms import EX_FAILURE
from celery.utils.log import ColorFormatter
from celery.worker import WorkController, state
from celery.worker import worker as celerys_worker
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer import Tasks
from celery.worker.consumer.delayed_delivery import DelayedDelivery as CeleryDelayedDelivery
from celery.worker.consumer.gossip import Gossip as CeleryGossip
from celery.worker.request import Request as CeleryRequest
from kombu import Connection, Queue
from kombu.transport import pyamqp

from baozi import upstream
from baozi.amqp import reading
from baozi.errors import ExitCode, UpstreamChanged, UsageError
from baozi.upstream import worker_command
from baozi.upstream.events import Dispatcher
from baozi.upstream.prefetch import consume_with_prefetch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "baozi" / "upstream"
#: Every file of which this module has a contract.
FILES = {path.stem: path for path in FOLDER.glob("*.py") if path.stem != "__init__"} | {
    "reading": ROOT / "baozi" / "amqp" / "reading.py"
}
#: The distributions whose behaviour is changed, by the module that is imported.
CHANGED = {"celery", "kombu", "billiard", "amqp"}
LOCKED = dict(re.findall(r"^([a-z-]+)==([0-9.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))

_with_a_contract: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., object])


def contract(name: str) -> Callable[[Test], Test]:
    """Mark a test as one that tells whether the change in the file ``name`` is still needed, or takes."""
    assert name in FILES

    def mark(test: Test) -> Test:
        _with_a_contract.add(name)
        return test

    return mark


def doc_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_each_change_has_a_contract() -> None:
    assert _with_a_contract == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_each_change_says_where_it_is_discussed_and_with_which_versions_it_was_checked(name: str) -> None:
    doc = doc_of(FILES[name])
    discussed = re.search(r"^Upstream: (.+?)^Checked with: (.+)\.$", doc, re.MULTILINE | re.DOTALL)
    assert discussed, "no such lines"
    assert re.search(r"(celery|kombu|py-amqp|billiard)#\d+|[Nn]o thread is known", discussed[1])
    checked = dict(one.rsplit(" ", 1) for one in discussed[2].replace("\n", " ").split(", "))
    imported = {it.partition(".")[0] for it in imports(FILES[name])} & CHANGED
    assert imported <= set(checked) <= CHANGED
    assert checked == {one: LOCKED[one] for one in checked}, "read what changed, then enter the new version"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_nothing_outside_the_folder_replaces_a_part_of_these_libraries() -> None:
    """It finds an assignment to an attribute of an imported module or class, by ``setattr`` too."""
    found = []
    for path in (ROOT / "baozi").rglob("*.py"):
        if FOLDER not in path.parents:
            found += [f"{path.relative_to(ROOT)}: {it}" for it in replaced(path.read_text())]
    assert found == []


def replaced(source: str) -> list[str]:
    """What ``source`` replaces in Celery, kombu, billiard or py-amqp, by its imports."""
    tree = ast.parse(source)
    theirs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in CHANGED:
            theirs |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [it for it in node.names if it.name.partition(".")[0] in CHANGED]
            theirs |= {it.asname or it.name.partition(".")[0] for it in names}
    found = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [it.value for it in node.targets if isinstance(it, ast.Attribute)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
            targets = [node.args[0]]
        for target in targets:
            if ast.unparse(target).partition(".")[0] in theirs:
                found.append(ast.unparse(target))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import celery.apps.worker\nsetattr(celery.apps.worker, 'safe_say', print)",
        "from celery import Task\nTask.apply = print",
        "import kombu as k\nk.Connection.x = 1",
    ],
)
def test_a_part_that_is_replaced_in_another_folder_is_found(source: str) -> None:
    assert replaced(source)


def test_a_name_that_celery_no_longer_has_is_reported_in_one_sentence() -> None:
    module = types.ModuleType("celery.apps.worker")
    with pytest.raises(UpstreamChanged, match=r"no celery\.apps\.worker\.safe_say") as caught:
        upstream.replace(module, "safe_say", print)
    assert caught.value.exit_code is ExitCode.USAGE
    assert not hasattr(module, "safe_say")
    with pytest.raises(UpstreamChanged, match="no step celery:B"):
        upstream.with_steps(["a:A"], {"celery:B": "baozi:B"})
    assert upstream.with_steps(["a:A", "celery:B"], {"celery:B": "baozi:B"}) == ["a:A", "baozi:B"]


#: What classes of ours add to those that they are derived from. All else they override: it must be there.
ADDED = {
    "Consumer": {
        "is_busy",
        "drain",
        "kill_batches",
        "dead_letter",
        "_postpone",
        "_republish",
        "_exit_if_permanent",
        "_is_guarded",
        "_is_reliable",
        "_receive_unguarded",
        "_new_batches",
        "_prefetch",
        "_executed_alone",
        "_reliable_tasks",
        "_batches",
        "_missing_since",
        "facts",
    },
    "Blueprint": set(),
    "Control": set(),
    "DelayedDelivery": set(),
    "Gossip": set(),
    "Malformed": set(),
    "Pidbox": {"_on_message"},
    "Dispatcher": {"_amqp", "_takes_events", "_log_dropped", "send_together"},
    "Events": set(),
    "UninflatedMessage": {"inflate"},
    "Request": {"_reason", "_traceback", "_failed", "fail", "_dead_letter"},
    "AMQP": {"_route"},
    "SoftShutdown": {"_draining", "_take_over", "_check", "register_with_event_loop"},
    "CheckingTransport": set(),
    "Worker": {"prefetched", "prefetch_is_adapted"},
    "EscapeFilter": set(),
}


def derived() -> Iterator[tuple[type, type]]:
    """Yield each class of the folder that is derived from another library's, with that one."""
    for name in sorted(FILES):
        module = importlib.import_module(f"baozi.upstream.{name}") if name != "reading" else reading
        classes = [it for it in vars(module).values() if isinstance(it, type)]
        classes += [it for one in classes for it in vars(one).values() if isinstance(it, type)]
        for one in classes:
            base = one.__bases__[0]
            if one.__module__ == module.__name__ and base is not object:
                yield one, base


@pytest.mark.parametrize(("ours", "theirs"), [*derived()], ids=lambda one: one.__name__)
def test_a_method_that_a_class_overrides_still_exists_in_its_base(ours: type, theirs: type) -> None:
    own = {name for name in vars(ours) if not (name.startswith("__") and name != "__init__")}
    added = {name for name in own if not hasattr(theirs, name)}
    assert added == ADDED[ours.__name__], "a new one that overrides nothing belongs in ADDED"


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("upstream", broker="memory://", set_as_current=False) as made:
        yield made


@contract("consumer")
@pytest.mark.parametrize(
    ("callback", "arguments", "settled_by"),
    [
        ("on_unknown_message", 0, "reject_log_error"),
        ("on_invalid_task", 1, "reject_log_error"),
        ("on_unknown_task", 1, "reject_log_error"),
        ("on_decode_error", None, "ack"),
    ],
)
def test_celery_drops_what_it_cannot_use_without_a_reason(
    callback: str, arguments: int | None, settled_by: str
) -> None:
    message = Mock(headers={"id": "1", "task": "x"}, properties={}, body="x", delivery_info={})
    method = getattr(CeleryConsumer, callback)
    error = ValueError("the reason")
    if arguments is None:
        method(Mock(spec=CeleryConsumer), message, error)
    else:
        consumer = Mock(event_dispatcher=None)
        method(consumer, None, message, *[error] * arguments)
    settled = getattr(message, settled_by)
    assert settled.call_count == 1
    assert "the reason" not in str(settled.call_args)


@contract("consumer")
def test_celery_counts_a_pool_process_as_busy_if_a_message_could_not_be_passed_to_it() -> None:
    worker = Mock()
    for error, released in ((ValueError, 0), (TaskRevokedError, 1)):
        request = Mock(execute_using_pool=Mock(side_effect=error))
        process: Any = vars(WorkController)["_process_task"]
        with suppress(ValueError):
            process(worker, request)
        assert worker._quick_release.call_count == released


@contract("consumer")
def test_celery_shows_the_connection_s_options_one_of_which_is_a_function() -> None:
    with Connection("memory://", transport_options={"frame_handler": print}) as connection:
        assert connection.info()["transport_options"]["frame_handler"] is print


@contract("prefetch")
def test_celery_does_not_change_the_prefetch_count_of_a_quorum_queue(app: Celery) -> None:
    app.conf.task_queues = [Queue("shop", queue_arguments={"x-queue-type": "quorum"})]
    transport = Mock(driver_type="amqp")
    consumer = Mock(app=app, connection=Mock(transport=transport, qos_semantics_matches_spec=False))
    assert Tasks.qos_global(Mock(), consumer) is False


@contract("prefetch")
def test_a_queue_gets_a_new_consumer_with_another_prefetch_count() -> None:
    asked = Mock()
    tasks = Mock(channel=asked.channel, _active_tags={"shop": "old"}, _queues={"shop": "the queue"})
    tasks._basic_consume = lambda queue, **_: asked.consume(queue)
    consumer = Mock(task_consumer=tasks, qos=Mock(value=4))
    consume_with_prefetch(consumer, "another", 100)
    assert asked.mock_calls == []
    consume_with_prefetch(consumer, "shop", 100)
    assert asked.mock_calls == [
        mock.call.channel.basic_cancel("old"),
        mock.call.channel.basic_qos(0, 100, False),
        mock.call.consume("the queue"),
        mock.call.channel.basic_qos(0, 4, False),
    ]
    assert tasks._active_tags == {}, "or the queue would not be consumed again"


@contract("delayed_delivery")
def test_celery_sets_delayed_delivery_up_on_each_node(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = ["amqp://a//", "amqp://b//"]
    app.conf.update(broker_url=";".join(nodes))
    tried: list[str] = []
    monkeypatch.setattr(
        CeleryDelayedDelivery, "_setup_delayed_delivery", lambda _step, _consumer, url: tried.append(url)
    )
    step = CeleryDelayedDelivery(Mock(app=app, steps=[]))
    step.start(Mock(app=app))
    assert sorted(tried) == nodes


@contract("events")
def test_celery_repeats_an_event_in_the_event_loop(app: Celery) -> None:
    producer = Mock()
    with Connection("memory://") as connection:
        dispatcher: Any = EventDispatcher(connection, app=app, enabled=False)
        dispatcher._publish({}, producer, "worker.heartbeat", retry=True)
    assert producer.publish.call_args.kwargs["retry"] is True
    assert producer.publish.call_args.kwargs["declare"]


@contract("events")
def test_the_kernel_gives_a_connection_up_that_is_not_read_for_a_second() -> None:
    settings: Any = vars(amqp.transport)["DEFAULT_SOCKET_SETTINGS"]
    assert settings["TCP_USER_TIMEOUT"] == 1000


def _sent(app: Celery, send: Callable[[Any], object]) -> tuple[list[dict[str, Any]], int]:
    """What a monitor receives of what ``send`` sends over a worker's dispatcher, and in how many messages."""
    producer = Mock()
    soon: list[None] = []
    with Connection("memory://") as connection:
        dispatcher: Any = Dispatcher(
            connection,
            "小明@here",
            app=app,
            enabled=False,
            buffer_group=["task"],
            on_send_buffered=lambda: soon.append(None),
        )
        dispatcher.enabled, dispatcher.producer, dispatcher._closed = True, producer, False
        send(dispatcher)
        assert soon, "nobody asked the event loop to send what is in the buffer"
        dispatcher.flush()
    messages = [call.args[0] for call in producer.publish.call_args_list]
    assert {call.kwargs["routing_key"] for call in producer.publish.call_args_list} == {"task.multi"}
    return [event for message in messages for event in message], len(messages)


@contract("events")
def test_what_is_sent_together_is_what_celery_sends_one_by_one(app: Celery) -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        (kind, {"uuid": str(number), "name": "shop.charge", "retries": 0, "eta": None})
        for number in range(100)
        for kind in ("task-received", "task-started")
    ]

    def one_by_one(dispatcher: Any) -> None:
        for kind, fields in events:
            dispatcher.send(kind, **fields)

    apart, apart_messages = _sent(app, one_by_one)
    together, together_messages = _sent(app, lambda dispatcher: dispatcher.send_together(events))
    clocks = [event.pop("clock") for event in together]
    assert clocks == sorted(set(clocks)), "a monitor orders events by their clock"
    for event in apart:
        del event["clock"]
    for one, other in zip(apart, together, strict=True):
        assert isinstance(other.pop("timestamp"), type(one.pop("timestamp")))
        assert one == other
    assert together_messages == apart_messages, "a larger message could fill the socket's buffer"


@contract("forking")
def test_a_fork_leaves_kombus_pools_as_they_are() -> None:
    """A child of ``os.fork`` has its parent's connection in the pool."""
    program = """
import os
from kombu import Connection, pools
with Connection("memory://") as connection:
    with pools.connections[connection].acquire() as one:
        one.connect()
    (pool,) = pools.connections.values()
    assert pool._dirty is not None and one in list(pool._resource.queue)
    child = os.fork()
    if not child:
        os._exit(0 if pools.connections and one._connection is not None else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@contract("broadcasts")
def test_celery_raises_what_a_malformed_event_brings(app: Celery) -> None:
    consumer: Any = Mock(app=app, hostname="x@here", hub=None)
    gossip: Any = CeleryGossip(consumer)
    payloads: list[Any] = [{}, {"type": 5, "clock": "z"}, []]
    for payload in payloads:
        event: Any = Mock(delivery_info={"routing_key": "worker.elect.ack"}, headers={}, payload=payload)
        with pytest.raises((LookupError, TypeError)):
            gossip.on_message(None, event)


@contract("logs")
def test_celery_logs_lines_that_a_message_brings() -> None:
    record = logging.LogRecord("celery", logging.INFO, "", 0, "Task %s received", ("x\nforged\x1b[2J",), None)
    assert ColorFormatter(use_color=False).format(record) == "Task x\nforged\x1b[2J received"


def compressed(body: bytes) -> Any:
    headers = {"compression": "application/x-gzip"}
    properties = {"application_headers": headers, "content_type": "application/json"}
    return Mock(body=zlib.compress(body), properties=properties, delivery_tag=1, delivery_info={})


@contract("message")
def test_kombu_inflates_a_message_in_its_constructor_without_a_limit() -> None:
    bomb = compressed(bytes(10_000_000))
    assert len(bomb.body) < 20_000
    assert len(pyamqp.Message(bomb).body or "") == 10_000_000
    # And it makes messages of the class that its channel names, which a worker's consumer sets.
    channel = Mock(Message=Mock())
    pyamqp.Channel.message_to_python(channel, bomb)
    channel.Message.assert_called_once_with(bomb, channel=channel)


def request_of(app: Celery, **more: object) -> tuple[Any, Any]:
    """Return Celery's own request of a task that is acknowledged late, and its message."""

    @app.task(name="upstream.task", acks_late=True, shared=False)
    def task() -> None:
        raise NotImplementedError

    headers = {"id": "1", "task": "upstream.task", "retries": 0, **more}
    embedded = {"callbacks": [{"task": "next"}], "errbacks": None, "chain": None, "chord": None}
    message = Mock(
        headers=headers,
        body=((), {}, embedded),
        payload=((), {}, embedded),
        properties={},
        delivery_info={},
        content_type="application/json",
        content_encoding="utf-8",
    )
    request = CeleryRequest(
        message, app=app, task=task, on_ack=message.ack, on_reject=message.reject, decoded=False
    )
    return request, message


@contract("request")
def test_celery_acknowledges_what_was_revoked(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "revoked", {"1"})
    monkeypatch.setattr("celery.worker.request.revoked_tasks", {"1"})
    request, message = request_of(app)
    assert request.revoked()
    assert (message.ack.call_count, message.reject.call_count) == (1, 0)


@contract("request")
def test_celery_ends_the_worker_when_a_task_has_no_memory(app: Celery) -> None:
    request, _ = request_of(app)
    with pytest.raises(MemoryError):
        request.on_failure(Mock(exception=MemoryError("none is left")))


@contract("request")
def test_celery_says_that_a_task_was_terminated_before_its_process_has_ended(app: Celery) -> None:
    request, message = request_of(app)
    request.time_start, request.worker_pid = 1.0, 1
    pool = Mock(spec=BasePool)
    request.terminate(pool)
    assert pool.terminate_job.call_count == 1
    assert message.ack.call_count == 1


@contract("request")
def test_celery_passes_callbacks_to_its_backend_which_would_send_them(app: Celery) -> None:
    request, _ = request_of(app)
    assert request._context.callbacks


@contract("routing")
def test_celery_makes_no_default_queue_where_queues_are_set(app: Celery) -> None:
    app.conf.task_queues = [Queue("mine")]
    assert list(app.amqp.queues) == ["mine"]


@contract("routing")
def test_celery_asks_the_routes_that_we_add_to(app: Celery) -> None:
    amqp: Any = app.amqp
    amqp.flush_routes()
    assert amqp.routes is amqp._rtable
    amqp._rtable = [lambda *_, **__: {"queue": "celery", "mandatory": True}, *amqp._rtable]
    assert amqp.Router().route({}, "any.task")["mandatory"] is True
    assert "Queues" in vars(CeleryAMQP)


@contract("soft_shutdown")
def test_celery_sleeps_for_the_whole_time_of_a_soft_shutdown(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(celerys_worker, "sleep", slept.append)
    monkeypatch.setattr(state, "active_requests", {Mock()})
    app.conf.worker_soft_shutdown_timeout = 30
    wait: Any = WorkController.wait_for_soft_shutdown
    wait(Mock(app=app))
    assert slept == [30]
    worker = Mock()
    WorkController.register_with_event_loop(worker, Mock())
    assert worker.blueprint.send_all.call_args.args[1] == "register_with_event_loop"
    assert "REMAP_SIGTERM" in vars(celery.apps.worker)


@contract("tls")
@pytest.mark.parametrize(
    ("ssl", "told"), [(True, None), ({"server_hostname": None}, ["127.0.0.1", "127.0.0.1"])]
)
def test_kombu_checks_no_host_name_or_only_that_of_the_first_node(
    monkeypatch: pytest.MonkeyPatch, ssl: Any, told: list[str] | None
) -> None:
    connect = Mock()
    monkeypatch.setattr(pyamqp.SSLTransport, "Connection", connect)
    with Connection("amqps://localhost//", ssl=ssl) as connection:
        for host in ("localhost", "b"):
            connection.hostname = host
            pyamqp.SSLTransport(connection).establish_connection()
    opened = [call.kwargs for call in connect.call_args_list]
    assert [one["host"].partition(":")[0] for one in opened] == ["127.0.0.1", "b"]
    if told is None:
        assert [one["ssl"] for one in opened] == [True, True]
    else:
        assert [one["ssl"]["server_hostname"] for one in opened] == told


@contract("worker")
def test_celery_ends_with_1_after_any_error() -> None:
    worker = Mock(blueprint=Mock(start=Mock(side_effect=OSError("an error"))))
    WorkController.start(worker)
    worker.stop.assert_called_once_with(exitcode=EX_FAILURE)
    assert EX_FAILURE == ExitCode.LOSS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--uid", "no-such-user"], "getpwnam(): name not found: 'no-such-user'"),
        (["--gid", "no-such-group"], "getgrnam(): name not found: 'no-such-group'"),
        (["--uid", "99999"], "getpwuid(): uid not found: 99999"),
        (["--autoscale", "1,x"], "invalid literal for int() with base 10: 'x'"),
    ],
)
@contract("worker_command")
def test_celerys_worker_command_passes_on_errors_of_options(
    monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    command = copy(celerys_commands.worker)
    for name in ("make_context", "invoke"):  # another test's app may have changed it
        vars(command).pop(name, None)
    monkeypatch.setattr(celerys_commands, "worker", command)
    with Celery(set_as_current=False) as app:
        context = CLIContext(app, no_color=True, workdir=None)
        with pytest.raises((KeyError, AttributeError)):
            command.main(options, obj=context, standalone_mode=False)
        worker_command.end_with_named_exit_codes()
        with pytest.raises(UsageError, match=re.escape(f"the worker's options: {said}. See")):
            command.main(options, obj=context, standalone_mode=False)


@contract("stdout")
def test_celery_prints_on_stdout_at_a_signal_and_at_its_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(celery.apps.worker, "safe_say", lambda _message, file=None: said.append(file))
    monkeypatch.setattr(celery.apps.worker, "install_worker_term_hard_handler", Mock())
    on_interrupt: Any = vars(celery.apps.worker)["on_SIGINT"]
    on_interrupt(Mock())
    assert said == [sys.__stdout__]
    worker = Mock(startup_info=Mock(return_value="banner"), extra_info=Mock(return_value=""))
    celery.apps.worker.Worker.emit_banner(worker)
    assert capfd.readouterr().out


@contract("restart")
def test_celery_restarts_with_a_file_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[Any] = []
    monkeypatch.setattr("os.execv", lambda program, arguments: run.append((program, arguments)))
    monkeypatch.setattr("celery.platforms.close_open_fds", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["/site-packages/celery/__main__.py", "worker"])
    reload: Any = vars(celery.apps.worker)["_reload_current_worker"]
    reload()
    assert run == [(sys.executable, [sys.executable, "/site-packages/celery/__main__.py", "worker"])]


@contract("reading")
def test_py_amqp_reads_a_message_in_many_calls_and_takes_another_handler_of_frames() -> None:
    calls: list[int] = []
    frame = b"\x01\x00\x01\x00\x00\x00\x04abcd\xce"

    def read(size: int, initial: bool = False) -> bytes:  # noqa: ARG001  # as py-amqp calls it
        start = sum(calls)
        calls.append(size)
        return frame[start : start + size]

    transport = Mock(_read=read, _read_buffer=b"")
    assert vars(amqp.transport)["_AbstractTransport"].read_frame(transport) == (1, 1, b"abcd")
    assert len(calls) > 1
    assert "frame_handler" in inspect.signature(amqp.Connection.__init__).parameters
