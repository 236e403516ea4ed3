"""remote_mp.serializers: an item that is read equals the item that was put, or ``dumps`` raises."""

import json
import math
import sys
from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.errors import UsageError
from remote_mp.serializers import Unreadable, serializer

JSON = serializer("json")
PICKLE = serializer("pickle")


def dumped_and_loaded(item: object) -> object:
    [got] = JSON.loads("application/json", JSON.join([JSON.dumps(item)]))
    return got


class Colour(StrEnum):
    RED = "red"


class Weight(IntEnum):
    HEAVY = 9


class Plain(Enum):
    ONE = 1


@dataclass(frozen=True)
class Point:
    x: int


def nested(levels: int, kind: type = list) -> Any:
    item: Any = "innermost"
    for _ in range(levels):
        item = {"in": item} if kind is dict else kind([item])
    return item


def containing_itself(kind: str) -> Any:
    if kind == "dict":
        table: dict[str, Any] = {}
        table["me"] = table
        return table
    items: list[Any] = []
    items += [items, (items,)] if kind == "twice" else [items]
    return items


@pytest.mark.parametrize(
    "item",
    [
        None,
        True,
        0,
        -(2**63),
        2**64,
        10**4000,
        0.1,
        -0.0,
        1e308,
        5e-324,
        "",
        "包子🥟\x00\u2028",
        [],
        {},
        {"": None},
        {"1": "b", "None": 1, "true": 2},
        [1, [2, {"three": [4.0, None, False]}]],
        OrderedDict(b=1, a=2),
        defaultdict(list, a=[1]),
        Colour.RED,
        {Colour.RED: Weight.HEAVY},
        nested(100),
        nested(100, dict),
    ],
)
def test_an_item_that_json_can_represent_comes_back_equal(item: object) -> None:
    got = dumped_and_loaded(item)
    assert got == item
    assert repr(got) == repr(json.loads(json.dumps(item)))


@pytest.mark.parametrize("item", [(1, 2), [(1,), {"a": (2,)}], ((),)])
def test_a_tuple_comes_back_as_a_list(item: object) -> None:
    assert dumped_and_loaded(item) == json.loads(json.dumps(item))


KEYS = [1, 0, None, True, 1.5, math.nan, math.inf, (1, 2), b"a", Weight.HEAVY, Plain.ONE, 10**5000, Point(1)]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_key_that_is_not_a_string_raises_at_any_depth(key: Any) -> None:
    bad = {key: "a"}
    for item in (bad, {key: "a", "1": "b"}, [bad], (bad,), {"in": bad}, [[{"deep": ({"er": [bad]},)}]]):
        with pytest.raises(TypeError, match=f"a key of a JSON item is a string, not {type(key).__name__}"):
            JSON.dumps(item)


VALUES = [
    *(math.nan, math.inf, -math.inf, 10**5000),
    *("\ud800", "a\udc80b", "包\udfff子", "\ude00\ud83d"),
    *(b"bytes", bytearray(b"x"), {1, 2}, frozenset(), object(), object, len, 1j, Decimal("1.5"), Plain.ONE),
    *(datetime.now(UTC), Point(1), UserDict(a=1), range(3), iter([1]), Ellipsis, memoryview(b"x")),
    *(nested(101), nested(101, dict), nested(101, tuple), nested(sys.getrecursionlimit() * 3)),
    *(containing_itself(kind) for kind in ("dict", "once", "twice")),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_that_json_does_not_have_raises_at_any_depth(value: Any) -> None:
    for item in (value, [value], (0, value), {"in": value}, [{"in": [0, {"er": (value,)}]}]):
        with pytest.raises((TypeError, ValueError)):
            JSON.dumps(item)


def test_half_of_a_surrogate_pair_raises_also_in_a_key() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        JSON.dumps([{"\ud800": 1}])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(codec=None)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(ANYTHING)
def test_an_item_comes_back_equal_or_raises(item: object) -> None:
    try:
        body = JSON.dumps(item)
    except (TypeError, ValueError):
        return
    [got] = JSON.loads("application/json", JSON.join([body]))
    assert got == item
    body.decode("ascii")


@pytest.mark.parametrize(
    "item", [{1: "a", "1": "b"}, math.inf, {None, 2.0}, (1, (2,)), "\ud800", nested(200)]
)
def test_a_pickle_keeps_items_that_json_cannot_represent(item: object) -> None:
    assert PICKLE.loads(PICKLE.content_type, PICKLE.join([PICKLE.dumps(item)] * 2)) == [item, item]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"no JSON", b"{}", b"[]", b"1", b'"text"', b"[1", b"[1]]", b"[1],", b"null", b"\xff\xfe"),
        *(b"[NaN]", b"[-Infinity]", b"[1" + b"0" * 5000 + b"]", b"[" * 100_000, b'[{"a":' * 5000, b"[\x00]"),
        *('["包"]'.encode("gb18030"), "[é]".encode("latin-1"), b"\x1f\x8b\x08\x00"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_not_a_list_of_items_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        JSON.loads("application/json", body)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("content_type", [None, "", "text/plain", 7, "application/json\n", ["text"]])
def test_a_body_with_another_content_type_is_unreadable(content_type: object) -> None:
    with pytest.raises(Unreadable, match="content type"):
        JSON.loads(content_type, b"[1]")
    with pytest.raises(Unreadable, match="content type"):
        PICKLE.loads(content_type, PICKLE.dumps(1))


def test_the_error_for_an_unknown_serializer_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="There is no serializer 'yaml'; there are json, pickle"):
        serializer("yaml")
