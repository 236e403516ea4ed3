"""One tree of errors. A class's docstring is its default message: what happened, and what to do about it."""

import sys
from collections.abc import Sequence
from enum import IntEnum
from inspect import getdoc
from typing import IO, Any, ClassVar

from click import ClickException

from baozi.language import Sentence
from baozi.shown import shown_lines


class ExitCode(IntEnum):
    """What a command's exit status means."""

    OK = 0
    LOSS = 1
    """An audit or `baozi prove` found a loss, or `baozi doctor` a danger; with --strict, any danger."""
    USAGE = 2
    NO_BROKER = 3
    NO_LEDGER = 4
    REFUSED = 5
    UNHEALTHY = 6
    """`baozi status`: no worker answers, or a part did not answer in time. `baozi prove`: work stops."""
    NOT_SHOWN = 7
    """`baozi prove --danger`: a danger was not seen, or its fix does not hold."""
    BUG = 70
    """An error that no part of the project expects: ``EX_SOFTWARE`` of ``sysexits.h``."""
    INTERRUPTED = 130


class BaoziError(ClickException):
    """Something went wrong that has no name yet; please report it."""

    # A click exception, for Celery's command line is made with click: there, too, it ends with the one
    # sentence and its exit code.
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE

    unsettled: Sequence[str] = ()
    """Ids of the messages that a publisher gave up with this error: put, and not confirmed."""

    sentence: Sentence
    """What happened. The command line prints it in the reader's language; as a text, the error is English."""

    def __init__(self, message: str | None = None, **fields: object) -> None:
        """Say ``message``, or the class's docstring when there is none.

        What a terminal may not print in it, names of unknown origin for example, is written out.

        Args:
            message: a text, or a template of :class:`baozi.language.Sentence`.
            fields: the fields of the template.
        """
        text = message or " ".join((getdoc(type(self)) or "").split())
        self.sentence = text if isinstance(text, Sentence) else Sentence(text, **fields)
        super().__init__(shown_lines(self.sentence))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence, as click asks for when a command ends with it."""
        print(self, file=file or sys.stderr)


class UsageError(BaoziError):
    """The command cannot do this. See --help."""


class UpstreamChanged(UsageError):
    """Another library lacks what this release changes in it. Install the versions that it requires."""


class NotABaozi(BaoziError):
    """The message is not a baozi; it needs run, producer, number and made_at, and nothing else."""


class NameInUse(BaoziError):
    """Another order of the same run and producer has this number. Give each producer a different name."""


class RunExists(UsageError):
    """This producer has already worked in this run; resume it (--resume), or name another run."""


class OrderDiffers(UsageError):
    """Another call had this number before. To resume, repeat the same puts in the same order."""


class OrderLeftOpen(BaoziError):
    """The outcome of some puts is unknown. Open the order with resume=True and repeat the same puts."""


class OrderStopped(KeyboardInterrupt):
    """A signal has stopped the order. Open it with resume=True and repeat the same puts to go on."""


class ReportNotInstalled(UsageError):
    """A report needs matplotlib and jinja2, which are not installed. Run `pip install matplotlib jinja2`."""


class PageNotInstalled(UsageError):
    """The page needs starlette and uvicorn, which are not here; `pip install "baozi[watch]"`."""


class PortInUse(UsageError):
    """Another program listens on this port. Choose another with --port."""


class JournalAway(UsageError):
    """The journal cannot be written or read. Check that BAOZI_HOME exists, has free space and is writable."""


class AppNotFound(UsageError):
    """The Celery app cannot be imported; name it as `celery -A` does."""


class DeadlinePassed(BaoziError):
    """The work did not end by its deadline: a process waits for something that will not come."""

    exit_code = ExitCode.LOSS


class BrokerError(BaoziError):
    """The broker cannot be used. See its log."""

    exit_code = ExitCode.NO_BROKER


class NoBroker(BrokerError):
    """No broker is known; start one with `baozi broker start`, or set BAOZI_BROKER_URL."""


class BrokerAway(BrokerError):
    """The broker does not answer; see that it runs and that the address is right."""


class BrokerRefused(BrokerError):
    """The broker refuses the user or the password. Correct BAOZI_BROKER_URL; with docker compose, .env."""


class NoVirtualHost(BrokerError):
    """The broker has no such virtual host, or the user may not enter it. Correct it in BAOZI_BROKER_URL."""


class BrokerBlocked(BrokerError):
    """The broker takes no messages because a memory or disk alarm is on. Free some, then try again."""


class NotPermitted(BrokerError):
    """The broker's user lacks a permission that this needs; an administrator can grant it."""


class DeadLettersInUse(BrokerError):
    """Another command is browsing the dead letters. Try again when it has ended."""


class TopologyMismatch(BrokerError):
    """The queue exists with other arguments; use the settings it was made with, or delete it first."""


class BrokerNotStarted(BrokerError):
    """The broker did not start; its log says why."""


class BrokerNotInstalled(BrokerError):
    """RabbitMQ cannot be installed here; that needs Debian's apt, and root or sudo without a password."""


class BrokerNotStopped(BrokerError):
    """The broker did not stop; see its log."""


class PutRefused(BaoziError):
    """The broker is there and did not take what was put."""

    exit_code = ExitCode.REFUSED


class QueueFull(PutRefused):
    """The queue stayed full until the deadline; add consumers, or wait longer with --timeout."""


class Unroutable(PutRefused):
    """No queue takes this message: its queue was deleted. Start a worker to declare it again, then retry."""


class MessageRefused(PutRefused):
    """The broker refused a message for what it is, and would do so each time; its log has the reason."""

    limit: int | None = None
    """Bytes that the broker takes, if it refused the message because it has more."""
    refused: str = ""
    """Of several messages that were put ahead, the id of the refused one; empty if it is unknown."""


class LedgerError(BaoziError):
    """The ledger cannot be used. Check BAOZI_LEDGER_URL."""

    exit_code = ExitCode.NO_LEDGER


class LedgerAway(LedgerError):
    """The ledger does not answer or cannot be written. Check that it exists, has space and is writable."""


class NothingToAudit(LedgerError):
    """The ledger has nothing of this run. Check the run's name."""


class AnotherLedger(LedgerError):
    """The queue belongs to another ledger. Set BAOZI_LEDGER_URL to it, or run `baozi ledger adopt`."""


class OnTheNetwork(LedgerError):
    """SQLite works on one machine only. Set BAOZI_LEDGER_URL to a local file or a PostgreSQL database."""


class AnotherMachine(LedgerError):
    """Another machine uses this SQLite ledger. Stop the workers there, or use a PostgreSQL database."""


class AnotherQueue(LedgerError):
    """The ledger belongs to another queue. Give each queue its own ledger, or run `baozi ledger adopt`."""


class SchemaTooOld(LedgerError):
    """The ledger's schema is older than this release needs. Run `baozi ledger upgrade`."""


class SchemaTooNew(LedgerError):
    """The ledger's schema is too new for this release. Install the release that upgraded it."""


class NotALedger(LedgerError):
    """The database has other tables under the ledger's names. Set BAOZI_LEDGER_URL to another database."""


class DeadLetter(Exception):
    """The task asks that its message goes to the dead letters at once, without a retry.

    It is no :class:`BaoziError`: a task raises it, and no command ends with it.
    """

    def __init__(self, reason: object = "") -> None:
        """Take the ``reason``, which ``baozi dead list`` shows; any object is converted to its text."""
        super().__init__(str(reason).strip() or "The task sent its message to the dead letters.")

    @property
    def reason(self) -> str:
        """Why the message is among the dead letters; never empty."""
        return str(self)


class TransactionError(BaoziError):
    """The task's transaction cannot be used like this."""


class TransactionControl(TransactionError):
    """A task cannot begin, commit or roll back its transaction. Use `tx.savepoint()`, or raise an error."""


class TransactionOver(TransactionError):
    """The task's transaction has ended. Use it only in the task's function, and raise its database errors."""


class TransactionTooLong(TransactionError):
    """The task held its transaction past its limit, so all of it is rolled back."""


class BadArguments(BaoziError):
    """The message's arguments do not fit the task."""


class BadResults(BaoziError):
    """A task whose function takes a list must return None, or a list with one result for each item."""


class NotJSON(UsageError):
    """The arguments and results of a task must be JSON: text, numbers, true, false, null, lists, objects."""
