"""Where remote_mp differs from multiprocessing: each difference, shown on both."""

import inspect
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import remote_mp
from tests.conformance.kinds import A_WHILE, Kind, put_and_end, spawn
from tests.waiting import wait_until

#: What ours does otherwise, as the first column of the documents' tables names it.
DIFFERENCES = (
    "a name",
    "`put` returns",
    "`join` waits",
    "`task_done`",
    "what an item may be",
    "an item that cannot be serialised",
    "a killed process",
    "`maxsize`",
    "`qsize`, `empty`, `full`",
    "pickling",
    "errors",
)


def test_each_difference_is_in_both_documents() -> None:
    docstring = re.findall(r"^\* (.+?): ", remote_mp.__doc__ or "", re.MULTILINE)
    page = re.findall(r"^\| (.+?) \| ", Path("docs/remote_mp.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(docstring) == DIFFERENCES
    assert set(DIFFERENCES) <= set(page)


def test_an_item_that_cannot_be_serialized_is_lost_in_multiprocessing_and_an_error_in_remote_mp(
    kind: Kind, capfd: pytest.CaptureFixture[str]
) -> None:
    q = kind.queue(1)
    if kind.is_ours:
        with pytest.raises(TypeError, match="not JSON serializable"):
            q.put(object)
    else:
        q.put(lambda: None)
        wait_until(lambda: "pickle" in capfd.readouterr().err, "the traceback on stderr")
    q.put("next", timeout=30)
    assert q.get(timeout=30) == "next"


def test_a_tuple_stays_a_tuple_in_multiprocessing_and_becomes_a_list_in_remote_mp(kind: Kind) -> None:
    q = kind.queue()
    q.put((1, 2))
    assert q.get(timeout=30) == ([1, 2] if kind.is_ours else (1, 2))


def test_join_waits_for_all_items_in_multiprocessing_and_for_its_own_in_remote_mp(kind: Kind) -> None:
    q = kind.joinable()
    child = spawn.Process(target=put_and_end, args=(q, ["the child's"]))
    child.start()
    assert q.get(timeout=60) == "the child's"
    joined = threading.Event()

    def join() -> None:
        q.join()
        joined.set()

    threading.Thread(target=join, daemon=True).start()
    assert joined.wait(A_WHILE) is kind.is_ours
    q.task_done()
    assert joined.wait(30)
    child.join(60)


def test_any_process_can_call_task_done_in_multiprocessing_and_only_the_receiver_in_remote_mp(
    kind: Kind,
) -> None:
    q = kind.joinable()
    q.put("not got yet")
    with suppress(ValueError):
        q.task_done()
        assert not kind.is_ours, "nothing was got"
    if kind.is_ours:
        q.get(timeout=30)
        q.task_done()
    q.join()


def test_join_of_remote_mp_has_a_timeout(kind: Kind) -> None:
    if not kind.is_ours:
        assert "timeout" not in inspect.signature(kind.joinable().join).parameters
        return
    q = kind.joinable()
    q.put("one")
    with pytest.raises(
        TimeoutError, match=r"1 of the items that this process put were not finished within 0\.1 s"
    ):
        q.join(0.1)
