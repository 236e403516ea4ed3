"""Malformed events and remote control commands, and the worker that gets them.

All workers get these messages. A malformed one is dropped. So the account is that of the baozi that are sent
after them, and the worker must answer a ping.
"""

import time
from collections.abc import Iterable

from hypothesis import strategies as st

from tests.fuzz.hostile import _READ, messages
from tests.fuzz.messages import _PROPERTIES, Message, _integers, _json, _json_values, _names, values
from tests.fuzz.wire import Refused, Value
from tests.fuzz.worker import MODES, QUIET, Fault, Worker
from tests.integration.place import Place

#: Where a message is sent, by the first word of its kind: exchange and routing key.
_WHERE = {
    "command": ("celery.pidbox", ""),
    "heartbeat": ("celeryev", "worker.heartbeat"),
    "online": ("celeryev", "worker.online"),
    "offline": ("celeryev", "worker.offline"),
    "elect": ("celeryev", "worker.elect"),
    "ack": ("celeryev", "worker.elect.ack"),
}
#: Commands with any arguments. Those that are left out (``shutdown``, ``pool_grow``, ``cancel_consumer``, …)
#: do what the sender asks for if they are well-formed.
_HARMLESS = ["ping", "clock", "report", "stats", "registered", "active", "active_queues", "scheduled"]
_HARMLESS += ["reserved", "revoked", "query_task", "conf", "hello", "heartbeat", "enable_events"]
_HARMLESS += ["revoke", "revoke_by_stamped_headers", "terminate", "objgraph", "memsample", "election"]
#: Commands that are sent to another worker only.
_HARMFUL = ["shutdown", "pool_grow", "pool_shrink", "pool_restart", "autoscale", "cancel_consumer"]
_HARMFUL += ["add_consumer", "rate_limit", "time_limit", "memdump", "unknown", ""]
_ARGUMENTS = ["task_id", "ids", "signal", "terminate", "task_name", "rate_limit", "soft", "hard", "n"]
_ARGUMENTS += ["queue", "from_node", "revoked", "headers", "taskinfoitems", "with_defaults", "id", "topic"]
_ARGUMENTS += ["action", "type", "num", "max", "min", "state", "self", "\x00"]

_integers_at_limits = [0, -1, 2**31, 2**62 - 1, 2**62, 2**63 - 2, 2**63, 2**64, 2**70]
_numbers = st.sampled_from([*_integers_at_limits, 1e300, 1e-300, float("nan"), float("inf")])
_any = st.one_of(
    _json_values, _numbers, st.sampled_from(["y@there", "x" * 300, "é" * 200, "\ud800", "\x1b[2J"])
)
_ids = st.one_of(_any, st.lists(_any, max_size=3))
_headers: st.SearchStrategy[list[tuple[str, Value]]] = st.one_of(
    st.just([("hostname", ("S", "y@there")), ("clock", ("l", 1))]),
    st.lists(
        st.tuples(st.sampled_from(["clock", "expires", "hostname", *_READ]) | _names, values), max_size=4
    ),
    _integers(64, signed=True).map(lambda it: [("clock", ("l", it))]),
)


@st.composite
def _commands(draw: st.DrawFn) -> Message:
    command: dict[str, object] = {"method": "ping", "arguments": {}, "destination": None}
    if draw(st.integers(0, 4)) == 0:
        command["method"] = draw(st.sampled_from(_HARMFUL))
        command["destination"] = draw(st.sampled_from([["y@there"], "y@there", 5, {"x": 1}, [[1]], [None]]))
        return Message("command", _json(command), draw(_headers), dict(_PROPERTIES))
    if draw(st.booleans()):
        command["method"] = draw(st.sampled_from(_HARMLESS))
        command["arguments"] = draw(
            _any | st.dictionaries(st.sampled_from(_ARGUMENTS), _ids, min_size=1, max_size=4)
        )
    elif draw(st.booleans()):
        command["method"] = draw(_any.filter(lambda it: it not in _HARMFUL))
    for name in draw(st.lists(st.sampled_from(["pattern", "matcher", "ticket", "reply_to"]), max_size=2)):
        command[name] = draw(
            _any
            | st.fixed_dictionaries({}, optional=dict.fromkeys(("exchange", "routing_key"), _any))
            | st.sampled_from(["(", "(a+)+$", "glob", "pcre", "*"])
        )
    if draw(st.integers(0, 9)) == 0:
        del command[draw(st.sampled_from(sorted(command)))]
    return Message("command", _json(command), draw(_headers), dict(_PROPERTIES))


@st.composite
def _events(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from([kind for kind in _WHERE if kind != "command"]))
    event: dict[str, object] = {"type": f"worker-{kind}", "hostname": "y@there", "timestamp": 1.8e9}
    event |= {
        "utcoffset": 0,
        "pid": 1,
        "clock": 1,
        "freq": 2,
        "active": 0,
        "processed": 0,
        "loadavg": [0, 0, 0],
    }
    event |= {"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"}
    if kind in {"elect", "ack"}:
        event |= {"id": "an-election", "topic": "task", "action": {}, "cver": 1}
    for name in draw(
        st.lists(st.sampled_from([*event, "x", "event", "heartbeats"]), max_size=3, unique=True)
    ):
        event[name] = draw(_any)
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        del event[name]
    return Message(kind, _json(event), draw(_headers), dict(_PROPERTIES))


@st.composite
def _anything(draw: st.DrawFn) -> Message:
    """Any message for a worker's queue, sent to one of these exchanges."""
    message = draw(messages)
    kind = f"{draw(st.sampled_from(list(_WHERE)))}: {message.kind}"
    return Message(**{**vars(message), "kind": kind})


broadcasts: st.SearchStrategy[Message] = st.one_of(_commands(), _events(), _anything())


class Broadcasts(Worker):
    """A worker whose events and remote control are malformed."""

    def __init__(self, place: Place) -> None:
        """Start the worker."""
        super().__init__(place, MODES["single"])
        self._unread: list[Fault] = []

    def take(self, messages: Iterable[Message], quiet: float = QUIET) -> list[Fault]:
        """Broadcast ``messages``, then send good baozi and account for them; return what is wrong."""
        self._unread = []
        return super().take(messages, quiet) + self._unread

    def _send(self, messages: Iterable[Message]) -> dict[int, Message]:
        for message in messages:
            exchange, routing_key = _WHERE[message.kind.partition(":")[0]]
            filled = message.filled(next(self._numbers))
            try:
                self.client.publish(exchange, routing_key, filled.head, filled.wire_body, filled.frame)
            except Refused:
                self.refused[message.kind] += 1
            else:
                self.accepted[message.kind] += 1
        self._wait_until_all_are_read()
        return super()._send([])

    def _wait_until_all_are_read(self) -> None:
        """Wait until the worker answers a ping, which is behind the commands, and has read all events."""
        deadline = time.monotonic() + QUIET
        while self.started.process.poll() is None:
            # The last event is behind the others in the worker's queue.
            if self._control.ping(timeout=1, limit=1) and not self._unread_events():
                return
            if time.monotonic() > deadline:
                self._unread = [Fault(f"the worker answers no ping or leaves {self._unread_events()} events")]
                return

    def _unread_events(self) -> int:
        queues = self.place.node.api("GET", f"queues/{self.place.virtual_host}")
        return sum(queue.get("messages", 0) for queue in queues if queue["name"].startswith("celeryev"))
