"""An order: what may be put, under which number, what its journal tells, and how a block may end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from celery import Celery, chain, chord, group
from kombu import Connection, Exchange, Queue

from baozi.errors import (
    BaoziError,
    BrokerAway,
    JournalAway,
    OrderDiffers,
    OrderLeftOpen,
    OrderStopped,
    RunExists,
    UsageError,
)
from baozi.model import Baozi
from baozi.order import Order
from baozi.progress import Progress
from baozi.task import ReliableTask

#: A list that contains itself, and one that is nested too deep.
ITSELF: list[Any] = []
ITSELF.append(ITSELF)
DEEP: list[Any] = []
for _ in range(101):
    DEEP = [DEEP]


def _one(order: Any) -> Any:
    return order


def _two(first: Any, second: Any = 0) -> Any:
    return first, second


class Shop:
    """An app with tasks, and its orders on a broker in memory."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.url = f"memory://{runs.name}"
        self.app = Celery("shop", broker=self.url, set_as_current=False)
        self.queue = Queue(f"shop-{id(self)}", Exchange(f"shop-{id(self)}", type="topic"), routing_key="shop")
        self.app.conf.update(
            task_queues=[self.queue],
            task_default_queue=self.queue.name,
            task_default_exchange=self.queue.exchange.name,
            task_default_exchange_type="topic",
            task_default_routing_key="shop",
            task_ignore_result=True,
        )
        self.charge = self.app.task(shared=False, base=ReliableTask, name="shop.charge")(_one)
        self.pair = self.app.task(shared=False, base=ReliableTask, name="shop.pair")(_two)
        self.mail = self.app.task(shared=False, name="shop.mail")(_one)
        self.open_order = self.app.task(shared=False, base=ReliableTask, name="shop.open_order")(_one)
        self.close_order = self.app.task(shared=False, base=ReliableTask, name="shop.close_order")(_one)
        self.tries = 0

    def connect(self, _left: float, _turn: int) -> Connection:
        self.tries += 1
        return Connection(self.url)

    def declare(self, connection: Connection, _again: bool) -> None:
        self.queue(connection.default_channel).declare()

    def order(self, name: str = "import", run: str = "r", **changes: Any) -> Order:
        options: dict[str, Any] = {
            "runs": self.runs,
            "connect": self.connect,
            "declare": self.declare,
            "open_order": self.open_order,
            "close_order": self.close_order,
            "base": ReliableTask,
            "timeout": 5,
        }
        return Order(self.app, run, name, **options | changes)

    def messages(self) -> list[Any]:
        """All that is in the queue."""
        found = []
        with Connection(self.url) as connection:
            queue = self.queue(connection.default_channel)
            queue.declare()
            while (message := queue.get(no_ack=True)) is not None:
                found.append(message)
        return found

    def journal(self, name: str = "import", run: str = "r") -> Path:
        return self.runs / run / f"{name}.journal"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def charged(messages: list[Any]) -> list[tuple[int, Any]]:
    """The number and the argument of each message that is no order's."""
    return [(it.headers["baozi-number"], it.payload[0][0]) for it in messages if "baozi-number" in it.headers]


def test_each_put_has_its_identity_in_the_headers_and_the_last_message_closes_the_order(shop: Shop) -> None:
    with shop.order() as order:
        for row in ("a", "b", "c"):
            order.put(shop.charge.s({"id": row}))
    *put, last = shop.messages()
    assert charged(put) == [(0, {"id": "a"}), (1, {"id": "b"}), (2, {"id": "c"})]
    for number, message in enumerate(put):
        headers = message.headers
        made = Baozi(run="r", producer="import", number=number, made_at=headers["baozi-made-at"])
        assert made.headers.items() <= headers.items()
        assert headers["id"] == made.task_id
        assert headers["baozi-order"] == order.progress.order_id
    closing = last.payload[0][0]
    assert last.headers["task"] == "shop.close_order"
    assert (closing["accepted"], closing["attempted"], closing["unknown"]) == (3, 3, [])
    assert order.progress.accepted == 3


def test_tasks_with_other_arguments_and_options_are_put_as_apply_async_would(shop: Shop) -> None:
    with shop.order() as order:
        order.put(
            shop.pair.s(1, second=2).set(priority=3, headers={"own": "x"}),
            shop.charge.s(datetime(2026, 1, 1, tzinfo=UTC)),
            shop.charge.s([Decimal("1.5"), UUID(int=1)]).set(task_id="own-id"),
        )
    first, second, third, _ = shop.messages()
    assert first.payload[:2] == [[1], {"second": 2}]
    assert (first.headers["own"], first.headers["baozi-number"]) == ("x", 0)
    assert first.properties["priority"] == 3
    assert second.payload[0] == [datetime(2026, 1, 1, tzinfo=UTC)]
    assert (third.headers["id"], third.payload[0]) == ("own-id", [[Decimal("1.5"), UUID(int=1)]])


def test_the_followers_of_a_task_have_the_same_ids_each_time_it_is_put(shop: Shop) -> None:
    ids = []
    for run in ("r", "r"):
        with shop.order(run=run) as order:
            links: Any = [shop.charge.s(), shop.pair.s(2).set(task_id="own")]
            order.put(shop.charge.s(1).set(link=links))
        message, _ = shop.messages()
        ids.append([link["options"]["task_id"] for link in message.payload[2]["callbacks"]])
        shop.journal().unlink()
    assert ids[0] == ids[1]
    assert ids[0][1] == "own"


def test_two_puts_with_one_task_id_are_both_accepted(shop: Shop) -> None:
    with shop.order() as order:
        order.put(*(shop.charge.s(number).set(task_id="same") for number in range(3)))
        order.put(shop.charge.s(3).set(task_id="same"))
    assert [number for number, _ in charged(shop.messages())] == [0, 1, 2, 3]
    assert order.progress.accepted == 4


BAD: dict[str, tuple[Callable[[Shop], Any], str]] = {
    "a task": (lambda shop: shop.charge, "takes a signature, as charge.s"),
    "a name": (lambda _: "shop.charge", "not an object of type str"),
    "a dictionary": (lambda shop: dict(shop.charge.s(1)), "not an object of type dict"),
    "None": (lambda _: None, "not an object of type NoneType"),
    "a chain": (lambda shop: chain(shop.charge.s(1), shop.charge.s()), "takes one task in each put"),
    "a group": (lambda shop: group([shop.charge.s(1), shop.charge.s(2)]), "takes one task in each put"),
    "a chord": (lambda shop: chord([shop.charge.s(1)], shop.charge.s()), "takes one task in each put"),
    "a map": (lambda shop: shop.charge.map([1, 2]), "takes one task in each put"),
    "chunks": (lambda shop: shop.pair.chunks([(1, 2)], 1), "takes one task in each put"),
    "an unknown task": (
        lambda shop: shop.app.signature("shop.nobody", (1,)),
        "shop.nobody is not of the app",
    ),
    "another app's": (lambda _: another_apps(), "shop.charge is not of the app 'shop'"),
    "an ordinary task": (lambda shop: shop.mail.s(1), "shop.mail is not a reliable task"),
    "too few arguments": (lambda shop: shop.charge.s(), "shop.charge: .*missing 1 required"),
    "too many arguments": (lambda shop: shop.charge.s(1, 2), "shop.charge: .*takes 1 positional"),
    "an unknown keyword": (lambda shop: shop.pair.s(1, third=2), "shop.pair: .*unexpected keyword"),
    "an object": (lambda shop: shop.charge.s(object()), "shop.charge: the arguments cannot be sent as JSON"),
    "an object inside": (lambda shop: shop.charge.s({"a": [object()]}), "cannot be sent as JSON"),
    "a function": (lambda shop: shop.pair.s(1, second=len), "cannot be sent as JSON"),
    "NaN": (lambda shop: shop.charge.s(float("nan")), "cannot be sent as JSON"),
    "infinity": (lambda shop: shop.charge.s([float("-inf")]), "cannot be sent as JSON"),
    "NaN beside a date": (lambda shop: shop.charge.s([datetime.now(UTC), float("nan")]), "sent as JSON"),
    "a number for a key": (lambda shop: shop.charge.s({1: 2}), "a dictionary's key is a int, not a string"),
    "None for a key": (lambda shop: shop.charge.s({"a": {None: 2}}), "key is a NoneType"),
    "half a surrogate pair": (lambda shop: shop.charge.s("\udc80"), "cannot be sent as JSON"),
    "half a pair in a key": (lambda shop: shop.charge.s({"\ud800": 1}), "cannot be sent as JSON"),
    "itself": (lambda shop: shop.charge.s(ITSELF), "contain themselves"),
    "too deep": (lambda shop: shop.charge.s(DEEP), "nested more than 100 levels"),
    "a huge integer": (lambda shop: shop.charge.s(10**5000), "cannot be sent as JSON"),
    "Celery's own keys": (lambda shop: shop.charge.s({"__type__": "x", "__value__": 1}), "Celery's own"),
    "pickle": (lambda shop: shop.charge.s(1).set(serializer="pickle"), "not as pickle"),
    "an empty id": (lambda shop: shop.charge.s(1).set(task_id=""), "task_id is a printable string"),
    "a long id": (lambda shop: shop.charge.s(1).set(task_id="x" * 256), "task_id is a printable string"),
    "an id of many bytes": (lambda shop: shop.charge.s(1).set(task_id="包" * 90), "printable string"),
    "an id with a newline": (lambda shop: shop.charge.s(1).set(task_id="a\nb"), "printable string"),
    "a number for an id": (lambda shop: shop.charge.s(1).set(task_id=cast(str, 7)), "printable string"),
}


def another_apps() -> Any:
    other = Celery("other", set_as_current=False)
    return other.task(shared=False, base=ReliableTask, name="shop.charge")(_one).s(1)


@pytest.mark.parametrize("bad", BAD)
def test_a_task_that_cannot_be_put_is_one_sentence_and_takes_no_number(shop: Shop, bad: str) -> None:
    make, says = BAD[bad]
    with shop.order() as order:
        order.put(shop.charge.s(0))
        with pytest.raises(UsageError, match=says) as error:
            order.put(shop.charge.s("beside it"), make(shop))
        order.put(shop.charge.s(1))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert charged(shop.messages()) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("names", [{"run": "../r"}, {"run": ""}, {"name": "a/b"}, {"name": ".hidden"}])
@pytest.mark.parametrize("resume", [False, True])
def test_a_bad_name_is_one_sentence(shop: Shop, names: dict[str, str], resume: bool) -> None:
    with pytest.raises(UsageError, match=r"^The (run|order)'s name .*\.$"):
        shop.order(**names, resume=resume)


@pytest.mark.parametrize("name", ["x" * 61, "a\nb", 7, None])
def test_a_name_that_is_no_name_is_one_sentence(shop: Shop, name: Any) -> None:
    with pytest.raises(UsageError, match=r"^The order's name .*\.$"):
        shop.order(name)


def test_an_eager_app_is_refused(shop: Shop) -> None:
    shop.app.conf.task_always_eager = True
    with pytest.raises(UsageError, match="task_always_eager"):
        shop.order()


def test_a_folder_that_cannot_be_made_is_one_sentence(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalAway, match=r"journal cannot be written or read"):
        shop.order(runs=tmp_path / "file").__enter__()


def test_a_journal_that_is_a_folder_is_one_sentence(shop: Shop) -> None:
    shop.journal().mkdir(parents=True)
    with pytest.raises(JournalAway, match=r"journal cannot be written or read"):
        shop.order().__enter__()


def test_an_order_is_used_in_its_block_once_by_its_own_thread(shop: Shop) -> None:
    order = shop.order()
    with pytest.raises(UsageError, match="used in its block"):
        order.put(shop.charge.s(1))
    errors: list[Exception] = []

    def elsewhere() -> None:
        for signatures in ([], [shop.charge.s(1)]):
            try:
                order.put(*signatures)
            except UsageError as error:
                errors.append(error)

    with order:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(10)
    assert [str(it) for it in errors] == 2 * [
        "An order belongs to the process and the thread that opened it."
    ]
    with pytest.raises(UsageError, match="opened once"):
        order.__enter__()


def test_a_forked_child_neither_puts_nor_closes(shop: Shop) -> None:
    with shop.order() as order:
        order.put(shop.charge.s(0))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                order.put(shop.charge.s("child"))
            except UsageError:
                order.__exit__(None, None, None)
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        order.put(shop.charge.s(1))
    assert charged(shop.messages()) == [(0, 0), (1, 1)]
    assert shop.journal().read_text().count(" closed ") == 1


def test_an_error_in_the_block_leaves_the_order_open_and_says_how_to_go_on(shop: Shop) -> None:
    with pytest.raises(ZeroDivisionError) as error, shop.order("import-7") as order:  # noqa: PT012  # it is the block that raises
        order.put(shop.charge.s(0))
        order.flush()
        raise ZeroDivisionError
    (note,) = error.value.__notes__
    assert note.startswith("The order import-7 of run r is left open: 1 accepted, 0 of unknown outcome.")
    assert "resume=True" in note
    assert " closed " not in shop.journal("import-7").read_text()
    assert [it.headers["task"] for it in shop.messages()] == ["shop.charge"]


def test_a_second_order_of_the_name_is_refused_until_it_is_resumed(shop: Shop) -> None:
    with shop.order() as order:
        order.put(shop.charge.s(0))
    with pytest.raises(RunExists, match=r"resume=True"), shop.order():
        pass
    with shop.order(resume=True) as order:
        order.put(shop.charge.s(0), shop.charge.s(1))
    assert charged(shop.messages()) == [(0, 0), (1, 1)]


def test_a_second_process_with_the_name_is_refused(shop: Shop) -> None:
    with shop.order() as order:
        order.put(shop.charge.s(0))
        program = (
            "import sys; from pathlib import Path; from baozi.progress import own_journal\n"
            "with own_journal(Path(sys.argv[1]), 'r', 'import', True): print('two')"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(shop.runs)], capture_output=True, text=True, check=False
        )
        with pytest.raises(RunExists, match="Another process"), shop.order(resume=True):
            pass
    assert done.stdout == ""
    assert "Another process is producer import of run r" in done.stderr


def interrupted(shop: Shop, lines: list[str]) -> None:
    """The journal of an order of rows 0 to 5 of which 0, 1 and 3 were accepted."""
    shop.journal().parent.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), shop.order() as order:  # noqa: PT012  # it is the block that raises
        order.put(*(shop.charge.s(row) for row in range(6)))
        order.flush()
        raise ZeroDivisionError
    kept = [line for line in shop.journal().read_text().splitlines() if " accepted " not in line]
    shop.journal().write_text("\n".join([*kept, *lines, ""]))
    shop.messages()


ACCEPTED = [f"1.0 accepted r/import/{number}" for number in (0, 1, 3)]


@pytest.mark.parametrize("puts", [1, 2, 8])
def test_resumed_the_same_puts_skip_what_was_accepted_and_no_number_is_missing(shop: Shop, puts: int) -> None:
    interrupted(shop, ACCEPTED)
    with shop.order(resume=True) as order:
        for start in range(0, 8, puts):
            order.put(*(shop.charge.s(row) for row in range(start, start + puts)))
    opening, *put, closing = shop.messages()
    assert opening.headers["task"] == "shop.open_order"
    assert charged(put) == [(number, number) for number in (2, 4, 5, 6, 7)]
    assert (closing.payload[0][0]["accepted"], closing.payload[0][0]["session"]) == (8, 2)


@pytest.mark.parametrize("number", range(6))
def test_resumed_with_another_call_under_a_number_nothing_is_put_for_it(shop: Shop, number: int) -> None:
    interrupted(shop, ACCEPTED)
    rows = ["another" if row == number else row for row in range(6)]
    with pytest.raises(OrderDiffers, match=f"Number {number} of the order"), shop.order(resume=True) as order:
        order.put(*map(shop.charge.s, rows))
    assert (number, "another") not in charged(shop.messages())


@pytest.mark.parametrize(
    "call",
    [
        lambda shop: shop.pair.s(0),
        lambda shop: shop.charge.s("0"),
        lambda shop: shop.charge.s(order=0),
        lambda shop: shop.charge.s(False),
    ],
)
def test_another_task_or_argument_is_another_call(shop: Shop, call: Callable[[Shop], Any]) -> None:
    interrupted(shop, ACCEPTED)
    with pytest.raises(OrderDiffers), shop.order(resume=True) as order:
        order.put(call(shop))


def test_resumed_with_fewer_puts_an_order_of_unknown_outcome_stays_open(shop: Shop) -> None:
    interrupted(shop, ACCEPTED)
    with (
        pytest.raises(OrderLeftOpen, match="3 accepted, 3 of unknown outcome"),
        shop.order(resume=True) as order,
    ):
        order.put(shop.charge.s(0))
    assert " closed " not in shop.journal().read_text()


def test_a_journal_without_digests_is_resumed_all_the_same(shop: Shop) -> None:
    interrupted(shop, ACCEPTED)
    lines = [line for line in shop.journal().read_text().splitlines() if " body " not in line]
    shop.journal().write_text("\n".join([*lines, ""]))
    with shop.order(resume=True) as order:
        order.put(*(shop.charge.s(f"new {row}") for row in range(6)))
    assert [number for number, _ in charged(shop.messages())] == [2, 4, 5]


def test_on_two_machines_one_name_is_two_orders(tmp_path: Path) -> None:
    ids = set()
    for machine in ("here", "there"):
        shop = Shop(tmp_path / machine)
        with shop.order() as order:
            order.put(shop.charge.s(machine))
        ids |= {message.headers["baozi-order"] for message in shop.messages()}
    assert len(ids) == 2


def test_after_a_put_that_failed_nothing_more_is_put_and_the_order_stays_open(shop: Shop) -> None:
    away = False

    def connect(left: float, turn: int) -> Connection:
        if away:
            raise BrokerAway
        return shop.connect(left, turn)

    with pytest.raises(OrderLeftOpen), shop.order(connect=connect, timeout=0.2) as order:  # noqa: PT012  # it is the block that raises
        order.put(shop.charge.s(0))
        order.flush()
        order._publisher._confirmed.abort()
        away = True
        with pytest.raises(BrokerAway):
            order.put(shop.charge.s(1))
        away = False
        with pytest.raises(OrderLeftOpen, match="An earlier put has failed"):
            order.put(shop.charge.s(2))
    assert charged(shop.messages()) == [(0, 0)]
    with shop.order(resume=True) as order:
        order.put(*(shop.charge.s(row) for row in range(3)))
    assert charged(shop.messages()) == [(1, 1), (2, 2)]


def test_an_order_that_cannot_be_opened_again_unlocks_its_journal(shop: Shop) -> None:
    def away(_left: float, _turn: int) -> Connection:
        raise BrokerAway

    interrupted(shop, ACCEPTED)
    with pytest.raises(BrokerAway), shop.order(connect=away, timeout=0.2, resume=True):
        pass
    with shop.order(resume=True) as order:
        order.put(*(shop.charge.s(row) for row in range(6)))
    assert order.progress.accepted == 6


def test_a_callback_that_fails_does_not_undo_what_was_accepted(shop: Shop) -> None:
    told: list[int] = []

    def tell(baozi: Baozi) -> None:
        told.append(baozi.number)
        raise ZeroDivisionError

    with shop.order(on_accepted=tell) as order:
        order.put(shop.charge.s(0), shop.charge.s(1))
    assert (told, order.progress.accepted) == ([0, 1], 2)


#: pytest-timeout has a handler for SIGALRM, and a program with one keeps its handlers.
without_alarm = pytest.mark.timeout(60, method="thread")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a program in the foreground has it; in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@without_alarm
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_the_current_put_completes_and_the_next_put_raises(
    shop: Shop, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with pytest.raises(OrderStopped) as error, shop.order() as order:  # noqa: PT012  # it is the block that raises
        order.put(shop.charge.s(0))
        os.kill(os.getpid(), number)
        assert order.stopping
        order.put(shop.charge.s(1))
    assert "1 accepted, 0 of unknown outcome" in error.value.__notes__[0]
    assert "A second signal ends at once" in capfd.readouterr().err
    assert [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert charged(shop.messages()) == [(0, 0)]


@without_alarm
def test_a_loop_that_ends_when_the_order_is_stopping_closes_the_order(shop: Shop) -> None:
    with shop.order() as order:
        for row in range(10):
            if order.stopping:
                break
            order.put(shop.charge.s(row))
            if row == 2:
                os.kill(os.getpid(), signal.SIGTERM)
    *_, closing = shop.messages()
    assert closing.payload[0][0]["accepted"] == 3


@without_alarm
@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_interrupts_at_once(shop: Shop) -> None:
    with pytest.raises(KeyboardInterrupt) as error, shop.order() as order:  # noqa: PT012  # it is the block that raises
        order.put(shop.charge.s(0))
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(error.value, OrderStopped)
    assert "left open" in error.value.__notes__[0]


@without_alarm
def test_a_program_s_own_handlers_stay(shop: Shop) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with shop.order() as order:
            os.kill(os.getpid(), signal.SIGTERM)
            order.put(shop.charge.s(0))
            assert not order.stopping
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard == [signal.SIGTERM]


@without_alarm
def test_a_process_in_the_background_is_stopped_by_sigterm_and_goes_on_ignoring_sigint(shop: Shop) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(OrderStopped), shop.order() as order:  # noqa: PT012  # it is the block that raises
            os.kill(os.getpid(), signal.SIGINT)
            order.put(shop.charge.s(0))
            os.kill(os.getpid(), signal.SIGTERM)
            order.put(shop.charge.s(1))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_order_works_in_another_thread_than_the_main_one(shop: Shop) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with shop.order() as order:
                order.put(shop.charge.s(0))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert errors == []
    assert charged(shop.messages()) == [(0, 0)]


@pytest.mark.parametrize("after", [0, 1, 40])
def test_a_full_disk_under_the_journal_is_reported_and_the_order_can_be_resumed(
    shop: Shop, after: int
) -> None:
    shop.journal().parent.mkdir(parents=True)
    order = shop.order()
    with pytest.raises(JournalAway, match="the journal's disk is full"), order:  # noqa: PT012  # it is the block that raises
        order.put(*(shop.charge.s(row) for row in range(3)))
        write = os.write

        def full(file: int, data: bytes) -> int:
            return write(file, data[:after]) if file == order._journal.fileno() else write(file, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", full)
            order.put(shop.charge.s(3))
    with shop.order(resume=True) as order:
        order.put(*(shop.charge.s(row) for row in range(4)))
    assert order.progress.accepted == 4
    assert {number for number, _ in charged(shop.messages())} == {0, 1, 2, 3}


def test_every_error_of_an_order_names_what_to_do() -> None:
    for kind in (OrderDiffers, OrderLeftOpen, RunExists):
        error: BaoziError = kind()
        assert "resume" in str(error).lower()
    assert "resume=True" in (OrderStopped.__doc__ or "")
    assert Progress("r", "import").accepted == 0
