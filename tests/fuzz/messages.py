"""What the fuzzer sends, as Hypothesis strategies: most of it is a valid message with something wrong.

A message is plain data, so that its ``repr`` is a Python literal that sends it again.
"""

import bz2
import json
import lzma
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Self

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.choice import choice_permitted
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, GLOBAL_CONSTANTS, HypothesisProvider

from tests.fuzz.wire import Value, properties

#: Replaced when a message is sent: by a name that no other message has, and by a task id of its own; by one
#: that a control command has revoked, and one that it has revoked with ``terminate``.
NAME, ID, REVOKED, TERMINATED = "name@@", "uuid@@", "revoked@@", "terminated@@"
#: Replaced by the time two seconds after the message is sent.
SOON = "soon@@"

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": lzma.compress,
}
#: What kombu calls them, and what it does not know.
_COMPRESSION_NAMES = {
    "zlib": ("zlib", "gzip", "application/x-gzip"),
    "bzip2": ("bzip2", "bzip", "application/x-bz2"),
    "lzma": ("lzma", "xz", "application/x-lzma"),
}
#: Bytes of the largest body that is sent, and that a compressed one becomes.
LARGEST_BODY, LARGEST_BOMB = 4_000_000, 400_000_000


@dataclass(frozen=True)
class Message:
    """One message."""

    kind: str
    """Which strategy made it."""
    body: list[tuple[bytes, int]]
    """Pieces of the body, each with how often it is repeated; without charset and compression."""
    headers: list[tuple[Any, Value]] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    charset: str | None = None
    """The body, which is UTF-8 here, is sent in this charset."""
    compression: str | None = None
    """The body is sent compressed: ``zlib``, ``bzip2`` or ``lzma``."""
    times: int = 1
    """How many copies of the compressed body are sent one behind the other, which some formats allow."""
    frame: int = 0
    """Bytes of the body in one frame; 0 for as many as the broker takes."""

    @property
    def head(self) -> bytes:
        """Its properties as they are sent."""
        headers = {} if self.headers is None else {"headers": self.headers}
        return properties({**headers, **self.properties})

    @property
    def wire_body(self) -> bytes:
        """Its body as it is sent."""
        return _wire_body(tuple(self.body), self.charset, self.compression) * self.times

    def literal(self) -> str:
        """Return it as a Python literal, a line for each part that is not a default."""
        parts = {name: it for name, it in asdict(self).items() if it != _DEFAULTS.get(name)}
        return "{\n" + "".join(f"    {name!r}: {it!r},\n" for name, it in parts.items()) + "}\n"

    @classmethod
    def read(cls, parts: dict[str, Any]) -> Self:
        """Make it of what :meth:`literal` returned, evaluated."""
        return cls(**parts)

    def filled(self, number: int) -> "Message":
        """Return it as the ``number``-th message that is sent: with a name and ids like no other's."""
        names = {
            NAME: name_of(number),
            ID: f"{number:08x}-0000-4000-8000-000000000000",
            REVOKED: revoked_id(number),
            TERMINATED: terminated_id(number),
            SOON: (datetime.now(UTC) + timedelta(seconds=2)).isoformat(),
        }
        return Message(**{part: _replaced(getattr(self, part), names) for part in asdict(self)})


def name_of(number: int) -> str:
    """Return the name of the ``number``-th message's producer and run."""
    return f"msg{number:07x}"


def revoked_id(number: int) -> str:
    """Return the task id of the ``number``-th message where that is revoked."""
    return f"{number:08x}-0000-4000-8000-00000000dead"


def terminated_id(number: int) -> str:
    """Return the same where it is revoked with ``terminate``."""
    return f"{number:08x}-0000-4000-8000-00000000beef"


def _replaced(it: Any, names: dict[str, str]) -> Any:
    if isinstance(it, bytes):
        for old, new in names.items():
            it = it.replace(old.encode(), new.encode())
        return it
    if isinstance(it, str):
        for old, new in names.items():
            it = it.replace(old, new)
        return it
    if isinstance(it, list):
        return [_replaced(one, names) for one in it]
    if isinstance(it, tuple):
        return tuple(_replaced(one, names) for one in it)
    if isinstance(it, dict):
        return {_replaced(name, names): _replaced(one, names) for name, one in it.items()}
    return it


@lru_cache(maxsize=64)
def _wire_body(pieces: tuple[tuple[bytes, int], ...], charset: str | None, compression: str | None) -> bytes:
    body = b"".join(piece * times for piece, times in pieces)
    if charset:
        body = body.decode("utf-8", "surrogatepass").encode(charset, "surrogatepass")
    return _COMPRESS[compression](body) if compression else body


_DEFAULTS: dict[str, Any] = {"headers": None, "properties": {}, "charset": None, "compression": None}
_DEFAULTS |= {"times": 1, "frame": 0}

# --- values of every type that AMQP has ---------------------------------------------------------------------

_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "é", "包子", "\x00", "\x1b[2J", "a\nb", "..", "9" * 400, "None", "\u202e", "[]", "{}"]
    ),
)
_raw = st.binary(max_size=20)


def _integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([0, 1, low, high]))


_leaves = st.one_of(
    st.tuples(st.just("t"), st.booleans()),
    *(
        st.tuples(st.just(letter), _integers(bits, signed))
        for letter, bits, signed in [
            ("b", 8, True),
            ("B", 8, False),
            ("s", 16, True),
            ("u", 16, False),
            ("I", 32, True),
            ("i", 32, False),
            ("l", 64, True),
            ("T", 64, False),
        ]
    ),
    st.tuples(st.just("f"), st.sampled_from([0.0, -1.5, "nan", "inf", "-inf"])),
    st.tuples(
        st.just("d"),
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["nan", "inf"])),
    ),
    st.tuples(st.just("D"), st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1))),
    st.tuples(st.just("S"), st.one_of(_texts, _raw)),
    st.tuples(st.just("x"), _raw),
    st.just(("V", None)),
)
_names = st.one_of(st.text(max_size=12), st.sampled_from(["", "id", "task", "\x00", "é" * 60, "x-death"]))


def _containers(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    arrays = st.lists(inner, max_size=4).map(lambda it: ("A", it))
    tables = st.lists(st.tuples(_names, inner), max_size=4).map(lambda it: ("F", it))
    return st.one_of(arrays, tables)


_deep = st.tuples(
    st.just("deep"), st.tuples(st.sampled_from("AF"), st.sampled_from([2, 50, 500, 1200, 3000, 12000]))
)
values: st.SearchStrategy[Value] = st.one_of(
    _leaves, st.recursive(_leaves, _containers, max_leaves=8), st.one_of(_leaves, _deep)
)

# --- valid messages -----------------------------------------------------------------------------------------

_V: Value = ("V", None)
_HEADERS: dict[str, Value] = {
    "lang": ("S", "py"),
    "task": ("S", "tasks.eat"),
    "id": ("S", ID),
    "shadow": _V,
    "eta": _V,
    "expires": _V,
    "group": _V,
    "group_index": _V,
    "retries": ("I", 0),
    "timelimit": ("A", [_V, _V]),
    "root_id": ("S", ID),
    "parent_id": _V,
    "argsrepr": ("S", "({},)"),
    "kwargsrepr": ("S", "{}"),
    "origin": ("S", "gen1@fuzzer"),
    "ignore_result": ("t", True),
    "replaced_task_nesting": ("I", 0),
    "stamped_headers": _V,
    "stamps": ("F", []),
}
_PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "correlation_id": ID,
    "delivery_mode": 2,
    "priority": 0,
}
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_BAOZI: dict[str, Any] = {"run": NAME, "producer": NAME, "number": 0, "made_at": 1.5}
_TRAY: dict[str, Any] = {"run": NAME, "producer": NAME, "numbers": [0, 1, 2], "made_at": 1.5}
_ORDER: dict[str, Any] = {"run": NAME, "producer": NAME, "accepted": 0, "attempted": 0, "closed_at": 1.5}
_TASKS = {"tasks.eat": _BAOZI, "tasks.eat_tray": _TRAY, "tasks.close_order": _ORDER}
_tasks = st.sampled_from(["tasks.eat", "tasks.eat", "tasks.eat", "tasks.eat_tray", "tasks.close_order"])


def _headers(task: str = "tasks.eat", /, **changes: Value) -> list[tuple[Any, Value]]:
    return list({**_HEADERS, "task": ("S", task), **changes}.items())


def _json(it: Any) -> list[tuple[bytes, int]]:
    return [(json.dumps(it).encode(), 1)]


def _valid(task: str = "tasks.eat") -> dict[str, Any]:
    return {
        "headers": _headers(task),
        "properties": dict(_PROPERTIES),
        "body": _json([[_TASKS[task]], {}, _EMBED]),
    }


def good(number: int = 0) -> Message:
    """Return a message that must be eaten: the ``number``-th of its producer."""
    body = _json([[{**_BAOZI, "number": number}], {}, _EMBED])
    return Message("good", **{**_valid(), "body": body})


def good_order() -> Message:
    """Return an order, closed with nothing in it, that must reach the ledger."""
    return Message("good", **_valid("tasks.close_order"))


_json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=True),
        st.text(max_size=8),
        st.sampled_from([_BAOZI, _TRAY, _ORDER, NAME]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_signatures = st.one_of(
    _json_values,
    st.fixed_dictionaries(
        {"task": st.sampled_from(["tasks.eat", "tasks.nothing", ""]) | _json_values},
        optional={
            "args": st.lists(st.sampled_from([_BAOZI, None]), max_size=2) | _json_values,
            "kwargs": st.just({}) | _json_values,
            "options": st.just({}) | st.fixed_dictionaries({"queue": _json_values}) | _json_values,
            "subtask_type": st.sampled_from(["chain", "group", "chord", None, "x"]) | _json_values,
            "immutable": st.booleans(),
            "chord_size": _json_values,
        },
    ),
)


class _Repeatable(HypothesisProvider):
    """Hypothesis's generator without the constants that it takes from the project's loaded modules.

    Which modules are loaded depends on the tests that ran before in the process. With their constants the
    same seed makes other messages in a run of all tests than alone.
    """

    def _maybe_draw_constant(self, choice_type: Any, constraints: Any, *, p: float = 0.05) -> Any:
        assert self._random is not None
        if self._random.random() > p:
            return None
        constants = GLOBAL_CONSTANTS.set_for_type(choice_type)
        permitted = [constant for constant in constants if choice_permitted(constant, constraints)]
        return self._random.choice(permitted) if permitted else None


AVAILABLE_PROVIDERS["repeatable"] = _Repeatable


def generate(strategy: st.SearchStrategy[Message], number: int, count: int) -> list[Message]:
    """Return ``count`` messages of ``strategy``, always the same for the same ``number``."""
    made: list[Message] = []

    @seed(number)
    @settings(
        backend="repeatable",
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(message: Message) -> None:
        made.append(message)

    collect()
    return made[:count]
