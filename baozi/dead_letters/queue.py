"""Browses the queue of dead letters, removes letters from it, and replays them."""

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
from baozi.dead_letters.letter import DeadMessage, Original, publish_unchanged, replayable_properties
from baozi.errors import (
    BrokerAway,
    BrokerError,
    DeadLettersInUse,
    NotABaozi,
    QueueFull,
    Unroutable,
    UsageError,
)
from baozi.model import NO_ORDER, ORDER_HEADER, order_of
from baozi.settings import settings
from baozi.topology import Topology

#: How many letters are fetched, and so in memory, at once.
_PAGE = 500
#: Seconds without a letter after which the queue's length is asked.
_POLL_EVERY = 1
#: ``basic.nack``: class and method (RabbitMQ's extension of AMQP 0-9-1).
_NACK = (60, 120)
#: Seconds of the first and of the longest pause before a full queue, or a queue that another process browses,
#: is tried again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1


class DeadLetterBrowser:
    """Browses all dead letters that are in the queue now.

    A quorum queue delivers requeued messages first. So all letters that were seen stay unacknowledged until
    the browser is closed. The broker holds them, not this process's memory. Then the letters that were not
    removed are requeued: in their old order, or, if the browser is closed early, behind the rest. No other
    process would see these letters at the same time, so only one may browse at a time.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Use ``connection``. ``timeout`` in seconds, for another process to end and for each page."""
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
        """Yield the letters, oldest first, at most ``limit``, without those that arrive later.

        Raises:
            DeadLettersInUse: another process browsed them until the deadline.
            BrokerError: the broker cannot be used, as :func:`baozi.amqp.connection.connect` says.
        """
        left, page = self._first_page(limit)
        while page:
            yield from page
            left -= len(page)
            with broker_errors():
                page = self._page(min(left, _PAGE))

    def _first_page(self, limit: int | None) -> tuple[int, list[DeadMessage]]:
        """Wait until no other process browses. Return how many letters to browse, and the first page."""
        deadline = time.monotonic() + self._timeout
        while True:
            with broker_errors():
                waiting, others = self._state()
                left = waiting if limit is None else min(waiting, limit)
                page = [] if others else self._page(min(left, _PAGE))
                if page and self._state()[1] > 1:  # another process began at the same time
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
        # A new consumer for each page, so that the broker sends no more than the page. It is py-amqp's,
        # because kombu's would decompress bodies.
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

    @property
    def waiting(self) -> int:
        """How many letters are ready in the queue now: all, unless some process browses them.

        Raises:
            BrokerError: the broker cannot be used.
        """
        with broker_errors():
            return self._state()[0]

    def remove(self, letter: DeadMessage) -> None:
        """Remove ``letter`` from the queue.

        Raises:
            BrokerError: it may still be in the queue.
        """
        with broker_errors():
            self._channel.basic_ack(letter.delivery_tag)
        del self._held[letter.delivery_tag]
        self._removed = True

    def close(self) -> None:
        """Requeue the letters that were not removed.

        Raises:
            BrokerError: the connection was lost. The broker then requeues the letters itself.
        """
        with broker_errors():
            if self._removed:
                self._wait_for_acknowledgements()
            self._requeue()
            # When the broker answers, it has done all that was requested before.
            self._channel.close()

    def _wait_for_acknowledgements(self) -> None:
        """Wait until the queue has every acknowledgement, because a channel that closes drops some of them.

        RabbitMQ's channel sends at most 32 commands to a quorum queue without an answer
        (``quorum_commands_soft_limit``). It holds back the others, as one command, until the first answer. A
        ``basic.get`` is answered after all commands that were sent: the second one, after those held back.
        """
        for _ in range(2):
            # It may return a new letter, which is not acknowledged and so is requeued.
            self._channel.basic_get(self._queue.name)

    def _requeue(self) -> None:
        # Page by page: when a channel closes, the letters are requeued in any order.
        last_of_each = {page: tag for tag, page in self._held.items()}
        for tag in last_of_each.values():
            self._channel.send_method(_NACK, "Lbb", (tag, True, True))
        self._held.clear()


@contextmanager
def browsing(timeout: float | None = None) -> Iterator[DeadLetterBrowser]:
    """Open a browser, and close it after the block.

    Args:
        timeout: seconds to wait for the broker and other browsers; default: the setting ``broker_timeout``.

    Raises:
        BrokerError: the broker cannot be used, as :func:`baozi.amqp.connection.connect` says.
    """
    limit = settings().broker_timeout if timeout is None else timeout
    with connect("dead letters", timeout=limit) as connection:
        browser = DeadLetterBrowser(connection, limit)
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
        BaoziError: as :meth:`DeadLetterBrowser.letters`.
    """
    with browsing() as browser:
        yield from browser.letters()


def of_run(run: str) -> DeadLetters:
    """Count the dead baozi of ``run``, for an audit. A baozi that is in several letters counts once.

    If the broker cannot be used or has no queue of dead letters, the result says so instead of an error.
    """
    dead: set[tuple[str, str, int]] = set()
    try:
        for letter in browse():
            mine = [baozi for baozi in letter.baozi if baozi.run == run]
            dead.update((it.producer, _order_id(letter), it.number) for it in mine)
    except (BrokerError, Unroutable) as error:
        return DeadLetters(None, reason=str(error))
    by_producer = Counter(producer for producer, _, _ in dead)
    return DeadLetters(by_producer, {(producer, order_id) for producer, order_id, _ in dead})


def runs_of_letters(timeout: float | None = None) -> set[str]:
    """Return the runs that the dead letters name. Messages that open or close an order also name one.

    Args:
        timeout: seconds to wait for the broker; default: ``broker_timeout``.

    Raises:
        BrokerError: as :meth:`DeadLetterBrowser.letters` says.
    """
    with browsing(timeout) as browser:
        return {run for letter in browser.letters() for run in letter.runs}


def _order_id(letter: DeadMessage) -> str:
    with suppress(NotABaozi):
        return order_of(letter.headers.get(ORDER_HEADER))
    return NO_ORDER


def find(browser: DeadLetterBrowser, wanted: Sequence[str]) -> list[DeadMessage]:
    """Return the letters whose ids begin with one of ``wanted``, oldest first.

    Raises:
        UsageError: there is none, or the ids of several letters begin so. Copies of one letter count as one.
        BrokerError: as :meth:`DeadLetterBrowser.letters` says.
    """
    ids: dict[str, str] = {}
    found = []
    for letter in browser.letters():
        fits = [beginning for beginning in wanted if letter.id.startswith(beginning)]
        for beginning in fits:
            if ids.setdefault(beginning, letter.id) != letter.id:
                raise UsageError(
                    "Several dead letters begin with {beginning!r}; give more of the one's id.",
                    beginning=beginning,
                )
        if fits:
            found.append(letter)
    for beginning in wanted:
        if beginning not in ids:
            raise UsageError(
                "There is no dead letter {beginning!r}. `baozi dead list` lists them.",
                beginning=beginning,
            )
    return found


class Replay:
    """Puts dead letters on the queue again as new messages.

    They have neither the headers of dead-lettering nor the number of retries that were made.
    """

    def __init__(self, timeout: float | None = None) -> None:
        """Open a new connection.

        Args:
            timeout: seconds for the connection and for each letter; default: ``broker_timeout``.

        Raises:
            BrokerError: as :func:`baozi.amqp.connection.connect` says.
        """
        self._timeout = settings().broker_timeout if timeout is None else timeout
        connection = connect("replay", timeout=self._timeout)
        self._channel = ConfirmedChannel(connection)

    def put(self, letter: DeadMessage) -> None:
        """Put ``letter`` on the queue and wait for the confirm. Remove it from the dead letters only then.

        Raises:
            QueueFull: the queue stayed full.
            Unroutable: no queue accepts the message.
            BrokerError: it was not confirmed, but may be in the queue.
        """

        queue = settings().queue

        def send(producer: Producer) -> None:
            message = Original(letter.body, replayable_properties(letter.original.properties))
            # With the queue's own routing key: the letter's key may be a delayed message's.
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
        """Close the connection."""
        self._channel.close()


def replay(wanted: Sequence[str] | None = None, timeout: float | None = None) -> Iterator[DeadMessage]:
    """Put dead letters on the queue again, and yield each when it has left the dead letters.

    Args:
        wanted: the beginnings of their ids; default: all that are there now.
        timeout: seconds for the connection, for other browsers and for each letter; default:
            ``broker_timeout``.

    Raises:
        UsageError: the errors of :func:`find`.
        BaoziError: the errors of :meth:`DeadLetterBrowser.letters` and :meth:`Replay.put`.
    """
    with browsing(timeout) as browser, Replay(timeout) as replaying:
        for letter in browser.letters() if wanted is None else find(browser, wanted):
            replaying.put(letter)
            browser.remove(letter)
            yield letter
