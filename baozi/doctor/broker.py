"""Collects facts about RabbitMQ, over one connection and from its management API. It changes nothing."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit, urlunsplit

from baozi.amqp.connection import connect
from baozi.broker import choice, management
from baozi.broker_url import Node, nodes, safe_url
from baozi.doctor.facts import BrokerFacts
from baozi.errors import (
    BaoziError,
    BrokerAway,
    BrokerError,
    BrokerRefused,
    NoVirtualHost,
)
from baozi.library_sentences import recognized

#: Seconds for the connection, and for each answer of the management API.
_TIMEOUT = 5
#: Where the management API listens by default, without and with TLS.
_PORTS = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
#: Answers with the status below if an alarm is on.
_ALARMS, _UNAVAILABLE = "health/checks/alarms", 503


def ask(url: str, management_url: str | None, exchanges: Iterable[str], unseen: list[str]) -> BrokerFacts:
    """Return what the broker says.

    Args:
        url: its URL, or those of a cluster's nodes.
        management_url: ``http://host:port``, maybe with a user and a password; None to look for it.
        exchanges: the exchanges that the app's tasks are sent to.
        unseen: gets a sentence for each thing that could not be looked at.

    Raises:
        BrokerError: the URL cannot be used, or the broker does not answer, refuses the user, or has no
            such virtual host.
    """
    try:
        node = nodes(url)[0]
    except ValueError as error:
        raise BrokerError("The broker's URL cannot be used: {error}.", error=recognized(str(error))) from None
    version = _version(url)
    where = management_url or _known(url) or _guess(node)
    login = url.split(";", maxsplit=1)[0]
    parts = urlsplit(where)
    if parts.username:
        login = f"amqp://{parts.username}:{parts.password or ''}@host/"
        port = f":{parts.port}" if parts.port else ""
        where = urlunsplit((parts.scheme, f"{parts.hostname}{port}", "", "", ""))
    return _managed(where, login, node, version, frozenset(exchanges), unseen)


def _version(url: str) -> str | None:
    shown = safe_url(url)
    try:
        with connect("doctor", _TIMEOUT, url) as connection:
            server: Mapping[str, Any] = connection.connection.server_properties
            return str(server["version"]) if "version" in server else None
    except BrokerRefused:
        raise BrokerError("The broker at {shown} refuses the user or the password.", shown=shown) from None
    except NoVirtualHost:
        raise BrokerError(
            "The broker at {shown} has no such virtual host, or the user may not use it.", shown=shown
        ) from None
    except BrokerAway as error:
        why = re.search(r"\((.*)\)", str(error))
        reason = f" ({why[1]})" if why else ""
        raise BrokerError(
            "The broker at {shown} does not answer within {timeout} s{reason}.",
            shown=shown,
            timeout=_TIMEOUT,
            reason=reason,
        ) from None


def _known(url: str) -> str | None:
    """The management URL of the broker that ``baozi broker start`` started, if ``url`` is its."""
    try:
        started = choice.find()
        same = started.management_url and nodes(started.url)[0].port == nodes(url)[0].port
    except (BaoziError, ValueError):
        return None
    return started.management_url if same else None


def _guess(node: Node) -> str:
    scheme, port = _PORTS[node.scheme]
    host = f"[{node.host}]" if ":" in node.host else node.host
    return f"{scheme}://{host}:{port}"


def _managed(
    where: str, login: str, node: Node, version: str | None, wanted: frozenset[str], unseen: list[str]
) -> BrokerFacts:
    def get(path: str, what: str = "") -> Any:
        """Return what the API answers, or None if it refuses; ``what`` is then in ``unseen``."""
        try:
            return management.ask(where, login, "GET", path, timeout=_TIMEOUT)
        except HTTPError as error:
            if what:
                unseen.append(f"{what}: the management API at {where} answers {error.code} {error.reason}")
            return error.code if path == _ALARMS else None
        except (OSError, ValueError) as error:
            raise _Away(getattr(error, "reason", None) or error) from None

    host = quote(node.virtual_host, safe="")
    try:
        overview = get("overview", "the broker's queues, policies, permissions and alarms")
        if overview is None:
            return BrokerFacts(version)
        queues = get(f"queues/{host}", "the queues") or []
        exchanges = get(f"exchanges/{host}", "the exchanges")
        bindings = get(f"bindings/{host}", "the bindings") or []
        members = get("nodes", "the alarms") or []
        is_alarmed = get(_ALARMS) == _UNAVAILABLE
        permissions = get("permissions", "the permissions of other users") or []
        policies = [get(f"{kind}/{host}") for kind in ("policies", "operator-policies")]
    except _Away as error:
        unseen.append(
            f"the broker's queues, policies, permissions and alarms: no management API at {where} ({error})."
            " Give it with --management"
        )
        return BrokerFacts(version)
    alarms = tuple(_alarms(members))
    return BrokerFacts(
        version=overview.get("rabbitmq_version") or version,
        managed=True,
        queues={it["name"]: _arguments(it, policies) for it in queues},
        consumed=frozenset(it["name"] for it in queues if it.get("consumers") and not it.get("exclusive")),
        exchanges=None if exchanges is None else {it["name"]: str(it["type"]) for it in exchanges},
        bindings=tuple((it["source"], it["destination"], it["routing_key"]) for it in bindings),
        # What is said of each node is some seconds old.
        alarms=alarms or (("memory or disk",) if is_alarmed else ()),
        writers=frozenset(_writers(permissions, node, wanted)),
    )


class _Away(Exception):
    """The management API does not answer."""


def _arguments(queue: Mapping[str, Any], policies: Iterable[Any]) -> dict[str, Any]:
    """Return a queue's arguments, with those of its policies that it does not have itself.

    The policies themselves are asked, because what the queue says of them is some seconds old. A user that
    may not see them has that only.
    """
    own = queue.get("arguments") or {}
    kind = queue.get("type") or own.get("x-queue-type", "classic")
    known = [it for it in policies if it is not None]
    if known:
        definitions = [_policy(queue["name"], kind, it) for it in known]
    else:
        definitions = [queue.get("effective_policy_definition") or {}]
    arguments: dict[str, Any] = {}
    for definition in reversed(definitions):
        arguments.update({f"x-{name}": it for name, it in definition.items()})
    arguments.update(own)
    # Of several limits the lowest counts.
    limits = [it.get("delivery-limit") for it in definitions] + [own.get("x-delivery-limit")]
    if given := [it for it in limits if isinstance(it, int) and it >= 0]:
        arguments["x-delivery-limit"] = min(given)
    return {**arguments, "x-queue-type": kind}


def _policy(name: str, kind: str, policies: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the definition of the policy with the highest priority that applies to the queue ``name``."""
    applies = {"all", "queues", f"{kind}_queues"}
    matching = [
        it for it in policies if it.get("apply-to") in applies and _matches(str(it.get("pattern")), name)
    ]
    best = max(matching, key=lambda it: it.get("priority", 0), default={})
    definition: Mapping[str, Any] = best.get("definition") or {}
    return definition


def _matches(pattern: str, name: str) -> bool:
    try:
        # RabbitMQ matches a part of the name, as re.search does.
        return re.search(pattern, name) is not None
    except re.error:  # Erlang's regular expressions have more
        return False


def _alarms(members: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for it in members:
        for name, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk")):
            if it.get(name):
                yield f"{what} on {it.get('name')}"


def _writers(
    permissions: Iterable[Mapping[str, Any]], node: Node, exchanges: frozenset[str]
) -> Iterable[str]:
    own = node.user or "guest"
    for it in permissions:
        if it.get("vhost") == node.virtual_host and it.get("user") != own and _may_write(it, exchanges):
            yield str(it["user"])


def _may_write(permission: Mapping[str, Any], exchanges: frozenset[str]) -> bool:
    pattern = str(permission.get("write", ""))
    return bool(pattern) and any(_matches(pattern, it or "amq.default") for it in exchanges)
