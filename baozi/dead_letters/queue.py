"""The dead letters: looking through them without taking any away, and putting them on the queue again."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from kombu import Connection, Producer
from tenacity import Retrying, retry_if_exception_type, stop_before_delay

from baozi.amqp.confirms import ConfirmedChannel
from baozi.amqp.connection import broker_errors, connect
from baozi.audit import DeadLetters
from baozi.backoff import exponential_wait, random_pause
from baozi.dead_letters.letter import DeadMessage, Original, publish_unchanged, publishable_properties
from baozi.errors import BrokerAway, BrokerError, DeadLettersInUse, NotABaozi, QueueFull, UsageError
from baozi.model import NO_ORDER, ORDER_HEADER, order_of
from baozi.settings import settings
from baozi.topology import Topology

#: Letters that are fetched at once, and so those that are in memory.
_PAGE = 500
#: Seconds after which one asks whether there are any left, when none comes.
_POLL_EVERY = 1
#: ``basic.nack``: class and method (RabbitMQ's extension of AMQP 0-9-1).
_NACK = (60, 120)
#: Seconds of the first and of the longest pause before a full queue is tried again, or others who look.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1


class Browser:
    """One look through all dead letters that are there now.

    A quorum queue hands out what was given back before all else. So the whole of what was seen is kept from
    it until the look ends, by the broker and not in memory here. What was not taken away then goes back: in
    its old order, or, if the look ended early, behind the rest. As nobody else would see these letters
    meanwhile, one looks at a time.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Browser over ``connection``; ``timeout`` is in seconds, for others to end and for each page."""
        self._connection = connection
        self._timeout = timeout
        self._held: dict[int, int] = {}  # delivery tags, each with the number of its page
        self._pages = 0
        self._removed = False
        wanted = Topology.of(settings()).dead_queue()
        with broker_errors():
            self._channel: Any = connection.channel()
            self._queue: Any = wanted(self._channel)

    def letters(self, limit: int | None = None) -> Iterator[DeadMessage]:
        """Yield them, oldest first, ``limit`` at the most; those that arrive meanwhile are for another look.

        Raises:
            DeadLettersInUse: somebody else looked until the deadline.
            BrokerError: the broker cannot be used, as :func:`baozi.amqp.connection.connect` says.
        """
        left, page = self._first_page(limit)
        while page:
            yield from page
            left -= len(page)
            with broker_errors():
                page = self._page(min(left, _PAGE))

    def _first_page(self, limit: int | None) -> tuple[int, list[DeadMessage]]:
        """Wait until nobody else looks, and begin; return how many letters are to be seen, and the first."""
        deadline = time.monotonic() + self._timeout
        while True:
            with broker_errors():
                waiting, others = self._state()
                left = waiting if limit is None else min(waiting, limit)
                page = [] if others else self._page(min(left, _PAGE))
                if page and self._state()[1] > 1:  # somebody began at the same time
                    self._requeue()
                    others = 1
            if not others:
                return left, page
            if time.monotonic() >= deadline:
                raise DeadLettersInUse()
            time.sleep(random_pause(_FIRST_PAUSE, _LONGEST_PAUSE))

    def _state(self) -> tuple[int, int]:
        declared = self._queue.queue_declare(passive=True)
        return declared.message_count, declared.consumer_count

    def _page(self, size: int) -> list[DeadMessage]:
        page: list[Any] = []
        if not size:
            return []
        deadline = time.monotonic() + self._timeout
        # A consumer of its own for each page: no more than the page is on its way. py-amqp's and not kombu's,
        # which would inflate what calls itself compressed.
        self._channel.basic_qos(0, size, False)
        tag = self._channel.basic_consume(self._queue.name, callback=page.append)
        while len(page) < size:
            try:
                self._connection.drain_events(timeout=_POLL_EVERY)
            except TimeoutError:
                if self._state()[0] == 0:
                    break
                if time.monotonic() >= deadline:
                    raise BrokerAway("The broker did not hand over the dead letters in time.") from None
        self._channel.basic_cancel(tag)
        self._pages += 1
        self._held |= {message.delivery_tag: self._pages for message in page}
        return [DeadMessage.of(message) for message in page]

    def remove(self, letter: DeadMessage) -> None:
        """Take ``letter`` out of the queue, for ever.

        Raises:
            BrokerError: it may be there still.
        """
        with broker_errors():
            self._channel.basic_ack(letter.delivery_tag)
        del self._held[letter.delivery_tag]
        self._removed = True

    def close(self) -> None:
        """End the look.

        Raises:
            BrokerError: the connection was lost, and the broker gives the letters back by itself.
        """
        with broker_errors():
            if self._removed:
                self._wait_for_acknowledgements()
            self._requeue()
            # Its answer says that the broker has done all that was asked for.
            self._channel.close()

    def _wait_for_acknowledgements(self) -> None:
        """Wait until the queue has every acknowledgement, for a channel that closes forgets some of them.

        RabbitMQ's channel has no more than 32 commands on their way to a quorum queue
        (``quorum_commands_soft_limit``). It keeps the others, as one command, until it hears of the first. A
        ``basic.get`` is answered behind all that is on its way: the second one, behind what was kept.
        """
        for _ in range(2):
            # It may bring a letter that is new: like all that nobody acknowledges, it goes back.
            self._channel.basic_get(self._queue.name)

    def _requeue(self) -> None:
        # One page after the other: when a channel closes, they come back in any order.
        last_of_each = {page: tag for tag, page in self._held.items()}
        for tag in last_of_each.values():
            self._channel.send_method(_NACK, "Lbb", (tag, True, True))
        self._held.clear()


@contextmanager
def browsing(timeout: float | None = None) -> Iterator[Browser]:
    """Open a look; ``timeout`` in seconds, default: the setting ``broker_timeout``.

    Raises:
        BrokerError: the broker cannot be used, as :func:`baozi.amqp.connection.connect` says.
    """
    limit = settings().broker_timeout if timeout is None else timeout
    with connect("dead letters", timeout=limit) as connection:
        browser = Browser(connection, limit)
        try:
            yield browser
        except BaseException:
            with suppress(BrokerError):
                browser.close()
            raise
        browser.close()


def browse() -> Iterator[DeadMessage]:
    """Yield every dead letter, oldest first, and remove none.

    Raises:
        BaoziError: as :meth:`Browser.letters`.
    """
    with browsing() as browser:
        yield from browser.letters()


def of_run(run: str) -> DeadLetters:
    """Count the dead baozi of ``run``, for an audit: each once, however many letters it is in.

    A broker that cannot be used is no error here: the answer says so.
    """
    dead: set[tuple[str, str, int]] = set()
    try:
        for letter in browse():
            mine = [baozi for baozi in letter.baozi if baozi.run == run]
            dead.update((it.producer, _order_id(letter), it.number) for it in mine)
    except BrokerError as error:
        return DeadLetters(None, reason=str(error))
    by_producer = Counter(producer for producer, _, _ in dead)
    return DeadLetters(by_producer, {(producer, order_id) for producer, order_id, _ in dead})


def runs_of_letters(timeout: float | None = None) -> set[str]:
    """Return the runs that some dead letter names; a closing or opening message names one too.

    Args:
        timeout: seconds to wait for the broker; default: ``broker_timeout``.

    Raises:
        BrokerError: as :meth:`Browser.letters` says.
    """
    with browsing(timeout) as browser:
        return {run for letter in browser.letters() for run in letter.runs}


def _order_id(letter: DeadMessage) -> str:
    with suppress(NotABaozi):
        return order_of(letter.headers.get(ORDER_HEADER))
    return NO_ORDER


def find(browser: Browser, wanted: Sequence[str]) -> list[DeadMessage]:
    """Return the letters whose ids begin with one of ``wanted``, oldest first.

    Raises:
        UsageError: there is none, or such a beginning fits several; copies of one letter are one.
        BrokerError: as :meth:`Browser.letters` says.
    """
    ids: dict[str, str] = {}
    found = []
    for letter in browser.letters():
        fits = [beginning for beginning in wanted if letter.id.startswith(beginning)]
        for beginning in fits:
            if ids.setdefault(beginning, letter.id) != letter.id:
                raise UsageError(f"Several dead letters begin with {beginning!r}; give more of the one's id.")
        if fits:
            found.append(letter)
    for beginning in wanted:
        if beginning not in ids:
            raise UsageError(
                f"There is no dead letter {beginning!r}; `baozi dead list` says which there are."
            )
    return found


class Replay:
    """Puts dead letters on the queue again, as new messages: with nothing on them of how they died."""

    def __init__(self, timeout: float | None = None) -> None:
        """Open a connection of its own; ``timeout`` in seconds for each, default: ``broker_timeout``.

        Raises:
            BrokerError: as :func:`baozi.amqp.connection.connect` says.
        """
        self._timeout = settings().broker_timeout if timeout is None else timeout
        connection = connect("replay", timeout=self._timeout)
        self._channel = ConfirmedChannel(connection)

    def put(self, letter: DeadMessage) -> None:
        """Put ``letter`` on the queue; the broker has it when this returns. Only then take it away.

        Raises:
            QueueFull: the queue stayed full.
            Unroutable: no queue takes it.
            BrokerError: it was not confirmed; it may be in the queue all the same.
        """

        queue = settings().queue

        def send(producer: Producer) -> None:
            message = Original(letter.body, publishable_properties(letter.original.properties))
            # By the queue's own key: the one that it came with may have been a delayed message's.
            publish_unchanged(producer, message, queue, queue)

        tries = Retrying(
            retry=retry_if_exception_type(QueueFull),
            wait=exponential_wait(_FIRST_PAUSE, _LONGEST_PAUSE),
            stop=stop_before_delay(self._timeout),
            reraise=True,
        )
        tries(self._channel.publish, send, time.monotonic() + self._timeout)

    def __enter__(self) -> Self:
        """Return the replay itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection: nothing is in flight."""
        self._channel.close()
