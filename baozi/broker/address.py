"""Where a broker is, and how to say it without its password."""

import re
from dataclasses import dataclass, field

#: A ``;`` parts a cluster's addresses only before a scheme; else it may stand in a password.
_NEXT_URL = re.compile(r";(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
#: User and password reach to the last ``@``: a password with a stray ``/`` or ``@`` must not show its tail.
_PASSWORD = re.compile(r"^((?>(?:[^:/@]*://)?)[^:@]*):.*@", re.DOTALL)


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


def each_url(url: str) -> list[str]:
    """The addresses of ``url``, which for a cluster are several, parted by ``;``."""
    return _NEXT_URL.split(url)


def safe_url(url: str) -> str:
    """Return ``url``, or each of several parted by ``;``, with ``***`` for the password: fit for a log."""
    return ";".join(_PASSWORD.sub(r"\1:***@", one) for one in each_url(url))
