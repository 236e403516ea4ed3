"""Where a broker is, and how to say it without its password."""

from dataclasses import dataclass, field

from baozi.broker_url import safe_url


@dataclass(frozen=True)
class Broker:
    """A broker to use. Its ``repr`` shows no password; ``url`` has it."""

    kind: str
    """``url`` (BAOZI_BROKER_URL names it), ``private``, ``container`` or ``memory``."""
    url: str = field(repr=False)
    """What kombu connects to. Several, parted by ``;``, for a cluster."""
    management_url: str | None = None
    """Where the management page and HTTP API are; the user and the password are those of ``url``."""
    version: str | None = None
    """RabbitMQ's version, where it is known."""
    node: str | None = None
    """The Erlang node's name, where it is known."""
    why: str = ""
    """One sentence: why this one."""

    @property
    def safe_url(self) -> str:
        """``url`` with ``***`` for the password."""
        return safe_url(self.url)
