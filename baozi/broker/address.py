"""A broker's URLs, and its URL without the password."""

from dataclasses import dataclass, field

from baozi.broker_url import safe_url


@dataclass(frozen=True)
class Broker:
    """A broker to use. Its ``repr`` shows no password; ``url`` has it."""

    kind: str
    """``url`` (BAOZI_BROKER_URL names it), ``private``, ``container`` or ``memory``."""
    url: str = field(repr=False)
    """kombu's URL; for a cluster, several URLs separated by ``;``."""
    management_url: str | None = None
    """URL of the management page and HTTP API, with the user and the password of ``url``; None if unknown."""
    version: str | None = None
    """RabbitMQ's version; None if unknown."""
    node: str | None = None
    """The Erlang node's name; None if unknown."""
    why: str = ""
    """One sentence: why this broker was chosen."""

    @property
    def safe_url(self) -> str:
        """``url`` with ``***`` for the password."""
        return safe_url(self.url)
