"""Checks and parses the broker's URL, and hides its password.

The form is RabbitMQ's (guide "RabbitMQ URI Specification"), without query parameters. kombu does not check a
URL: it replaces invalid parts by ``guest@localhost``, or prints them in a traceback.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote

#: RabbitMQ's schemes, and Celery's two that name a client, with the meaning of each.
_SCHEMES = {"amqp": "amqp", "pyamqp": "amqp", "amqps": "amqps", "pyamqps": "amqps"}
#: kombu's queue inside one process.
MEMORY = "memory"
#: Default ports without and with TLS.
_PORTS = {"amqp": 5672, "amqps": 5671}
#: Characters of one URL, and of a host's name (RFC 1035). More would only fill the message of an error.
_LONGEST_URL, _LONGEST_HOST = 8192, 253
#: Bytes of a virtual host's name, which AMQP sends as a short string.
_LONGEST_VIRTUAL_HOST = 255
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: For :func:`safe_url`. A ``;`` separates URLs only before a scheme: else it may belong to a password.
_NEXT_URL = re.compile(r";(?=\s*[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
#: User and password reach to the last ``@``: a password with a raw ``/`` or ``@`` must not show its end.
_PASSWORD = re.compile(r"^((?>(?:[^:/@]*://)?)[^:@]*):.*@", re.DOTALL)

_ENCODE = (
    "in a user, a password and a virtual host, write each of # / ? [ ] @ : ; % and space as %23, %2F and"
    " so on"
)


@dataclass(frozen=True)
class Node:
    """One node of a URL. Its ``repr`` shows no password."""

    scheme: str
    """``amqp`` or ``amqps``, or ``memory``, which has no more."""
    host: str = ""
    """A name or an address; one of IPv6 without its brackets."""
    port: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    virtual_host: str = "/"


def nodes(url: str) -> list[Node]:
    """Parse ``url``: one node, or for a cluster several, separated by ``;``.

    Args:
        url: ``amqp://user:password@host:port/vhost``, ``amqps://…`` for TLS, or ``memory://``.

    Returns:
        The nodes, in the order of the URL. All have the same virtual host.

    Raises:
        ValueError: the URL is invalid. The message names the wrong part, but does not repeat it.
    """
    items = url.split(";")
    if any(item.strip() and "://" not in item for item in items[1:]):
        raise ValueError("after a `;` it has no amqp://; write a `;` in a password as %3B")
    found = []
    for number, item in enumerate(items, 1):
        try:
            found.append(_node(item))
        except ValueError as error:
            which = f" (URL {number} of {len(items)})" if len(items) > 1 else ""
            raise ValueError(f"{error}{which}") from None
    if len({node.scheme for node in found}) > 1:
        raise ValueError("its URLs have different schemes; a cluster's nodes have one")
    if len({node.virtual_host for node in found}) > 1:
        raise ValueError("its URLs name different virtual hosts; a cluster's nodes have one")
    if len(found) > 1 and found[0].scheme == MEMORY:
        raise ValueError("memory:// must be the only URL, because it is not a cluster")
    return found


def safe_url(url: str) -> str:
    """Return ``url``, or each of several separated by ``;``, with ``***`` for the password, for a log."""
    return ";".join(_PASSWORD.sub(r"\1:***@", one) for one in _NEXT_URL.split(url))


def _node(item: str) -> Node:
    if not item:
        raise ValueError("it has an empty URL before or after a `;`")
    if len(item) > _LONGEST_URL:
        raise ValueError(f"it is longer than {_LONGEST_URL} characters")
    if not item.isascii():
        raise ValueError("it has a character that is not ASCII; write it in UTF-8 as %XX for each byte")
    if not item.isprintable() or " " in item:
        raise ValueError("it has a space or a control character, maybe beside a `;`")
    matched = _SCHEME.fullmatch(item)
    if matched is None:
        raise ValueError("it does not begin with amqp:// or amqps://")
    name, rest = matched[1].lower(), matched[2]
    if name == MEMORY:
        if rest.strip("/"):
            raise ValueError("memory:// has nothing after it")
        return Node(MEMORY)
    if name not in _SCHEMES:
        raise ValueError("its scheme is not amqp or amqps, and Baozi runs on RabbitMQ only")
    return _rabbitmq_node(_SCHEMES[name], rest)


def _rabbitmq_node(scheme: str, rest: str) -> Node:
    """Parse what follows the scheme."""
    if _PERCENT.search(rest):
        raise ValueError("it has a % that two hexadecimal digits do not follow; write the character % as %25")
    if rest.count("@") > 1:
        raise ValueError(f"it has more than one @; {_ENCODE}")
    login, at, place = rest.rpartition("@")
    if any(character in login for character in "/?#[]"):
        raise ValueError(f"its user or password has a character that must be encoded; {_ENCODE}")
    address, slash, path = place.partition("/")
    if "?" in place:
        raise ValueError(
            "it has a query (after ?), which is not supported; BAOZI_BROKER_TIMEOUT sets the timeout,"
            " SSL_CERT_FILE names the authority of TLS"
        )
    if "#" in place:
        raise ValueError("it has a fragment (after #), which is not supported")
    user, password = _login(login) if at else (None, None)
    host, port = _address(address, _PORTS[scheme])
    return Node(scheme, host, port, user, password, _virtual_host(path) if slash else "/")


def _login(login: str) -> tuple[str, str | None]:
    user, colon, password = login.partition(":")
    if ":" in password:
        raise ValueError(f"its user or password has a second `:`; {_ENCODE}")
    if not user:
        raise ValueError("it has no user before the password or the @")
    if colon and not password:
        raise ValueError("its password is empty, maybe from a variable that is not set")
    return _decoded(user, "user"), _decoded(password, "password") if colon else None


def _address(address: str, port: int) -> tuple[str, int]:
    if address.startswith("["):
        host, bracket, after = address[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ValueError("its host is not an IPv6 address in brackets")
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ValueError("its host is not an IPv6 address in brackets") from None
        if "%" in host:
            raise ValueError("its host is an IPv6 address with a zone, which is not supported")
        return host, _port(after[1:]) if after else port
    host, colon, number = address.partition(":")
    if not host:
        raise ValueError("it has no host")
    if ":" in number:
        raise ValueError(
            "after the host it has more than one `:`; write an IPv6 address in brackets, and a user and a"
            " password before an @"
        )
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host.removesuffix(".")):
        raise ValueError("its host is not a host's name or address")
    return host, _port(number) if colon else port


def _port(number: str) -> int:
    # int() would also accept signs, underscores and any number of digits.
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 65_535:
        raise ValueError("its port is not a number from 1 to 65535")
    return int(number)


def _virtual_host(path: str) -> str:
    # Celery's own way to name the default virtual host is to end with two slashes.
    if path in {"", "/"}:
        return "/"
    if "/" in path:
        raise ValueError("it has more than one virtual host after the port; write a / in its name as %2F")
    if "[" in path or "]" in path:
        raise ValueError(f"its virtual host has a character that must be encoded; {_ENCODE}")
    name = _decoded(path, "virtual host")
    if len(name.encode()) > _LONGEST_VIRTUAL_HOST:
        raise ValueError(f"its virtual host is longer than {_LONGEST_VIRTUAL_HOST} bytes")
    return name


def _decoded(text: str, part: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        _refuse(part, "not UTF-8 once its %XX are decoded")
    if "\0" in decoded:
        _refuse(part, "not valid: it has a zero byte, %00")
    return decoded


def _refuse(part: str, why: str) -> NoReturn:
    raise ValueError(f"its {part} is {why}") from None
