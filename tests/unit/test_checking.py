"""What passes the checks, Celery can handle; all else is refused with a reason."""

import bz2
import json
import lzma
import tracemalloc
import zlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from weakref import WeakSet

import pytest
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from celery.worker import state
from hypothesis import given
from hypothesis import strategies as st
from kombu import Message
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from baozi.amqp.inflating import LONGEST, inflated
from baozi.upstream.consumer import Consumer, _Guarded
from baozi.upstream.request import Request
from baozi.worker.checking import LONGEST_DELAY, Refused, check_body, check_headers, seconds_until_due
from tasks.app import app
from tasks.eating import eat

TASKS: Any = {"tasks.eat": eat}
BODY = json.dumps([[{}], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()

#: What a header can hold.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes()
)
values = st.recursive(
    scalars,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [
        *("task", "id", "root_id", "parent_id", "group", "group_index", "shadow", "lang", "meth", "origin"),
        *("argsrepr", "kwargsrepr", "eta", "expires", "retries", "timelimit", "ignore_result", "utc"),
        *("replaced_task_nesting", "stamped_headers", "stamps", "headers", "compression", "get", "update"),
        *(
            "delivery_info",
            "_protected",
            "callbacks",
            "chain",
            "children",
            "as_execution_options",
            "x-filling",
        ),
    ]
)


def message(headers: dict[str, Any], body: bytes = BODY, encoding: str = "utf-8") -> Any:
    made: Any = Message(
        body=body,  # type: ignore[arg-type]  # bytes on AMQP
        content_type="application/json",
        content_encoding=encoding,
        accept={"application/json"},
        delivery_info={"exchange": "baozi", "routing_key": "baozi"},
    )
    made.headers = headers
    return made


def refused(checked: Any) -> str | None:
    """The reason for which it is refused."""
    try:
        check_headers(checked, TASKS)
        check_body(checked, TASKS)
        seconds_until_due(checked, 0.0)
    except Refused as refusal:
        return str(refusal)
    return None


@given(st.dictionaries(names, values, max_size=4))
def test_of_any_headers_celery_gets_those_that_it_can_handle(headers: dict[str, Any]) -> None:
    checked = message({"task": "tasks.eat", "id": "x"} | headers)
    if refused(checked):
        return
    request = Request(checked, app=app, task=eat, hostname="h", headers=checked.headers)
    assert not request.revoked() or request.id in ("x", headers.get("id"))
    hard, soft = request.time_limits
    assert all(limit is None or limit > 0 for limit in (hard, soft))
    context = Context(request.request_dict)
    assert context.get("id") == checked.headers["id"]
    assert isinstance(context.as_execution_options(), dict)
    json.dumps(str(request) + repr(request))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda one: (
            st.lists(one, max_size=4)
            | st.dictionaries(
                st.sampled_from(["task", "id", "args", "kwargs", "callbacks", "chain", "chord", "x"]),
                one,
                max_size=4,
            )
        ),
    )
)
def test_of_any_body_celery_gets_one_of_three_parts(value: Any) -> None:
    for headers in ({"task": "tasks.eat", "id": "x"}, {}):
        checked = message(dict(headers), json.dumps(value).encode())
        if refused(checked):
            continue
        args, kwargs, embed = checked.payload
        assert isinstance(args, list)
        assert isinstance(kwargs, dict)
        assert not (embed or {}).get("chord")
        assert json.loads(checked.body) == checked.payload


@given(st.binary(max_size=50), st.text(max_size=10))
def test_of_any_bytes_nothing_is_raised_but_a_refusal(body: bytes, encoding: str) -> None:
    assert refused(message({"task": "tasks.eat", "id": "x"}, body, encoding))


COMPRESSIONS = {"gzip": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_compressed_body_is_inflated_up_to_a_limit(name: str) -> None:
    compress: Any = COMPRESSIONS[name]
    assert inflated(compress(BODY), name) == BODY
    assert len(inflated(compress(bytes(LONGEST)), name)) == LONGEST
    bomb = compress(bytes(100 * LONGEST))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than"):
            inflated(bomb, name)
        assert tracemalloc.get_traced_memory()[1] < 20 * LONGEST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["zstd", "", "GZIP", 5, None, b"gzip", ["gzip"], {}, True])
def test_an_unknown_compression_is_refused(compression: object) -> None:
    with pytest.raises(ValueError, match="unknown compression"):
        inflated(BODY, compression)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_body_that_is_falsely_marked_as_compressed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        inflated(b"\0 no such thing", name)


NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("eta", "seconds"),
    [
        ("2026-01-01T00:00:00", 0),
        ("2025-12-31T23:59:59.5+00:00", 0),
        ("0001-01-01T00:00:00", 0),
        ("2026-01-01T00:00:00.1", 1),
        ("2026-01-01T01:00:00+00:00", 3600),
        ("2026-01-01T01:00:00+01:00", 0),
        ("2034-07-04T21:24:15+00:00", LONGEST_DELAY),
    ],
)
def test_a_delay_is_rounded_to_whole_seconds(eta: str, seconds: int) -> None:
    later = message({"task": "tasks.eat", "id": "x", "eta": eta})
    assert seconds_until_due(later, NOW) == seconds
    assert ("eta" in later.headers) == bool(seconds), "Celery must not hold what is due"


@pytest.mark.parametrize(
    "eta", ["2034-07-04T21:24:16+00:00", "9999-12-31T23:59:59", "2099-01-01T00:00:00+14:00"]
)
def test_a_message_with_a_longer_delay_than_the_broker_supports_is_refused(eta: str) -> None:
    with pytest.raises(Refused, match="further away"):
        seconds_until_due(message({"eta": eta}), NOW)


@pytest.mark.parametrize(
    "error", [ValueError("x"), TypeError(), RecursionError(), RuntimeError(), LookupError(5)]
)
def test_a_message_that_cannot_be_passed_to_the_pool_leaves_its_slot_free(error: Exception) -> None:
    semaphore = LaxBoundedSemaphore(1)
    consumer: Any = SimpleNamespace(
        connection_errors=(OSError,), controller=SimpleNamespace(semaphore=semaphore), handed=[]
    )

    def fail_to_hand_over(_: object) -> None:
        raise error

    job = SimpleNamespace(execute_using_pool=fail_to_hand_over, fail=consumer.handed.append)

    def process() -> None:  # as Celery's worker does
        try:
            _Guarded(job, consumer).execute_using_pool(None)
        except TaskRevokedError:
            semaphore.release()

    for _ in range(3):
        semaphore.acquire(process)
    assert semaphore.value == 1
    assert consumer.handed == [error] * 3


def test_a_lost_connection_leaves_the_slot_free_too() -> None:
    semaphore = LaxBoundedSemaphore(1)
    consumer: Any = SimpleNamespace(
        connection_errors=(OSError,), controller=SimpleNamespace(semaphore=semaphore)
    )

    def lose_connection(_: object) -> None:
        raise ConnectionResetError

    job = SimpleNamespace(execute_using_pool=lose_connection)
    with pytest.raises(ConnectionResetError):
        semaphore.acquire(_Guarded(job, consumer).execute_using_pool, None)
    assert semaphore.value == 1


def test_messages_in_the_pool_that_have_not_begun_count_as_active_until_they_are_done() -> None:
    consumer: Any = Consumer.__new__(Consumer)
    consumer.handed_over, consumer.republications = WeakSet(), set()
    request = Mock(spec=Request)
    request.execute_using_pool.side_effect = TaskRevokedError
    state.reserved_requests.add(request)
    try:
        with pytest.raises(TaskRevokedError):
            _Guarded(request, consumer).execute_using_pool(None)
        assert not consumer.is_busy, "it was revoked"
        request.execute_using_pool.side_effect = None
        _Guarded(request, consumer).execute_using_pool(None)
        assert consumer.is_busy
    finally:
        state.task_ready(request)
    assert not consumer.is_busy
