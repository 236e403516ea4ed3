"""Messages for a worker, each with something wrong, as Hypothesis strategies."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.messages import (
    _COMPRESS,
    _COMPRESSION_NAMES,
    _EMBED,
    _HEADERS,
    _PROPERTIES,
    _TASKS,
    ID,
    LARGEST_BODY,
    LARGEST_BOMB,
    NAME,
    REVOKED,
    SOON,
    TERMINATED,
    Message,
    _headers,
    _integers,
    _json,
    _json_values,
    _names,
    _raw,
    _signatures,
    _tasks,
    _texts,
    _valid,
    values,
)
from tests.fuzz.wire import Value

#: Headers that somebody reads: Celery, kombu, the broker, or this project.
_READ = [*_HEADERS, "meth", "compression", "x-delivery-count", "x-acquired-count", "x-death", "x-retry-count"]
_READ += ["baozi-reason", "baozi-consumer", "baozi-died-at", "baozi-deliveries", "x-first-death-reason"]
_READ += ["x-first-death-queue", "x-last-death-reason", "chord", "callbacks", "delivery_info", "hostname"]
_READ += ["task_name", "kwargs", "args", "reply_to", "correlation_id", "traceparent", "run", "producer"]

_times = st.sampled_from(
    [
        *("2099-01-01T00:00:00+00:00", "1970-01-01T00:00:00", "2020-02-30T00:00:00", "9999-12-31T23:59:59Z"),
        *(
            "0001-01-01T00:00:00+14:00",
            "2099-01-01",
            "12:00",
            "now",
            "",
            "-1",
            "1e400",
            "nan",
            "+292277026596",
        ),
        *("2026-13-45T99:99:99", "2099-01-01T00:00:00+99:99", "2099-01-01T00:00:00 Nowhere/City"),
    ]
)
_moments: st.SearchStrategy[Value] = st.one_of(
    st.tuples(st.just("S"), _times),
    st.just(("S", SOON)),
    st.tuples(st.just("S"), st.text("0123456789-:T.+Z", max_size=26)),
    st.tuples(st.just("d"), st.sampled_from([0.0, -1.0, 1e10, 1e18, 1e300, "inf", "nan"])),
    st.tuples(st.just("l"), _integers(64, signed=True)),
    st.tuples(st.just("T"), _integers(64, signed=False)),
    values,
)
_short_texts = st.one_of(
    _texts.filter(lambda it: len(it.encode("utf-8", "surrogatepass")) <= 255),
    st.binary(max_size=20),
    st.sampled_from([b"\xff\xfe", "é" * 127, "x" * 255]),
)


@st.composite
def _wrong_headers(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    headers = dict(parts["headers"])
    for name in draw(st.lists(st.sampled_from(_READ), min_size=1, max_size=3)):
        headers[name] = draw(values)
    for name in draw(st.lists(st.sampled_from(list(_HEADERS)), max_size=2)) if draw(st.booleans()) else ():
        headers.pop(name, None)
    return Message("headers", **{**parts, "headers": list(headers.items())})


@st.composite
def _wrong_times(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    names = draw(st.sampled_from([("eta",), ("expires",), ("eta", "expires")]))
    headers = list((dict(_headers()) | {name: draw(_moments) for name in names}).items())
    return Message("times", **{**parts, "headers": headers})


@st.composite
def _wrong_limits(draw: st.DrawFn) -> Message:
    numbers = st.one_of(
        st.sampled_from([("V", None), ("I", 0), ("I", -1), ("l", 2**62), ("d", 1e300), ("d", "nan")]),
        values,
    )
    limits = draw(st.lists(numbers, max_size=3))
    return Message("limits", **{**_valid(), "headers": _headers(timelimit=("A", limits))})


@st.composite
def _revoked(draw: st.DrawFn) -> Message:
    parts = _valid(task := draw(_tasks))
    chosen = draw(st.sampled_from([REVOKED, TERMINATED]))
    headers = dict(_headers(task, id=("S", chosen)))
    if draw(st.booleans()):
        headers["eta"] = draw(_moments)
    return Message("revoked", **{**parts, "headers": list(headers.items())})


_CHANGED = [
    *("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "app_id"),
    *("cluster_id", "timestamp", "priority", "delivery_mode", "expiration", "user_id"),
]


@st.composite
def _wrong_properties(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    changed = parts["properties"]
    for name in draw(
        st.lists(
            st.sampled_from(_CHANGED),
            min_size=1,
            max_size=3,
            unique=True,
        )
    ):
        if name == "timestamp":
            changed[name] = draw(_integers(64, signed=False) | st.sampled_from([1_700_000_000_000, 2**40]))
        elif name in {"priority", "delivery_mode"}:
            changed[name] = draw(st.integers(0, 255))
        elif name == "expiration":
            changed[name] = draw(st.sampled_from(["0", "1", "60000", "-1", "x", "", "4294967295", "1e3"]))
        elif name == "user_id":
            changed[name] = draw(st.sampled_from(["baozi", "guest", ""]))
        elif draw(st.booleans()):
            changed[name] = draw(_short_texts)
        else:
            changed.pop(name, None)
    return Message("properties", **parts)


@st.composite
def _content_types(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    types = ["application/json", "application/data", "application/x-python-serialize", "application/x-yaml"]
    types += ["application/x-msgpack", "text/plain", "application/JSON", "application/json; charset=utf-8"]
    encodings = ["utf-8", "UTF8", "binary", "ascii", "latin-1", "utf-16", "utf-7", "rot13", "base64", "zlib"]
    encodings += [
        "unicode_escape",
        "idna",
        "punycode",
        "hex",
        "undefined",
        "utf-8\0",
        "8bit",
        "us-ascii",
        "cp037",
    ]
    parts["properties"]["content_type"] = draw(st.sampled_from(types) | _short_texts)
    parts["properties"]["content_encoding"] = draw(st.sampled_from(encodings) | _short_texts)
    return Message("content types", **parts)


@st.composite
def _charsets(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    charset = draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037", "utf-16-le"]))
    parts["properties"]["content_encoding"] = draw(st.sampled_from([charset, "utf-8", "binary", "latin-1"]))
    return Message("charsets", **parts, charset=charset)


@st.composite
def _compressed(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(list(_COMPRESS)))
    named = draw(
        st.one_of(
            st.sampled_from(_COMPRESSION_NAMES[kind]).map(lambda it: ("S", it)),
            st.sampled_from(["zstd", "brotli", "ZLIB", "", "none", "snappy", "application/zstd"]).map(
                lambda it: ("S", it)
            ),
            values,
        )
    )
    parts = _valid(task := draw(_tasks))
    parts["headers"] = _headers(task, compression=named)
    times = 1
    shape = draw(st.sampled_from(["small", "small", "bomb", "not compressed"]))
    if shape == "bomb":
        # Zeros, spaces or digits around a valid message; some formats allow copies one behind the other.
        size = draw(st.sampled_from([1_000_000, 20_000_000, 50_000_000]))
        parts["body"] = [(draw(st.sampled_from([b" ", b"\0", b"0"])), size), *parts["body"]]
        times = draw(st.sampled_from([1, 1, LARGEST_BOMB // size])) if kind != "zlib" else 1
    return Message(
        "compressed", **parts, compression=None if shape == "not compressed" else kind, times=times
    )


@st.composite
def _embeds(draw: st.DrawFn) -> Message:
    parts = _valid(task := draw(_tasks))
    embed: Any = dict(_EMBED)
    for name in draw(
        st.lists(st.sampled_from([*_EMBED, "group", "unknown"]), min_size=1, max_size=2, unique=True)
    ):
        embed[name] = draw(st.one_of(_signatures, st.lists(_signatures, max_size=2)))
    if draw(st.integers(0, 9)) == 0:
        embed = draw(_json_values)
    return Message("embeds", **{**parts, "body": _json([[_TASKS[task]], {}, embed])})


@st.composite
def _arguments(draw: st.DrawFn) -> Message:
    parts = _valid(task := draw(_tasks))
    item = _TASKS[task]
    wrong = st.one_of(
        _json_values,
        st.fixed_dictionaries({}, optional=dict.fromkeys(item, _json_values)).map(lambda it: {**item, **it}),
        st.sampled_from(sorted(item)).map(lambda name: {it: item[it] for it in item if it != name}),
    )
    args = draw(st.one_of(st.lists(wrong, max_size=2), wrong.map(lambda it: [it]), _json_values))
    kwargs = draw(st.just({}) | st.just({"item": item}) | _json_values)
    body = draw(
        st.sampled_from(
            [[args, kwargs, _EMBED], [args, kwargs], [args], {"args": args}, args, [args, kwargs, 1, 2]]
        )
    )
    return Message("arguments", **{**parts, "body": _json(body)})


@st.composite
def _damaged(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    [(body, _)] = parts["body"]
    at = draw(st.integers(0, len(body)))
    gone = draw(st.integers(0, 8))
    new = draw(
        st.one_of(_raw, st.sampled_from([b"\\ud800", b"NaN", b"1e999", b"\\u0000", b"//", b"\xef\xbb\xbf"]))
    )
    return Message("damaged", **{**parts, "body": [(body[:at] + new + body[at + gone :], 1)]})


@st.composite
def _deep_bodies(draw: st.DrawFn) -> Message:
    parts = _valid(task := draw(_tasks))
    depth = draw(st.sampled_from([10, 500, 990, 5000, 100_000, 1_000_000]))
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
    deep = [(opening, depth), (b"1", 1), (closing, depth)]
    if draw(st.booleans()):
        item = json.dumps(_TASKS[task]).encode()
        deep = [(b"[[" + item[:-1] + b', "x": ', 1), *deep, (b"}], {}, {}]", 1)]
    elif draw(st.booleans()):
        deep = [(b"[[" + json.dumps(_TASKS[task]).encode() + b'], {}, {"chain": ', 1), *deep, (b"}]", 1)]
    return Message("deep bodies", **{**parts, "body": deep})


@st.composite
def _large(draw: st.DrawFn) -> Message:
    parts = _valid(task := draw(_tasks))
    size = draw(st.sampled_from([9_000, 10_001, 131_064, 131_072, 1_000_000, LARGEST_BODY - 1000]))
    item = json.dumps(_TASKS[task]).encode()
    body = draw(
        st.sampled_from(
            [
                [(b" ", size), (b"[[" + item + b"], {}, {}]", 1)],
                [(b"[[" + item[:-1] + b', "x": "', 1), (b"a", size), (b'"}], {}, {}]', 1)],
                [(b"[[" + item + b"], {}, {}, ", 1), (b"9", size), (b"]", 1)],
                [(b"[[", 1), (b"1,", size // 2), (b"1], {}, {}]", 1)],
                [(b"\0", size)],
            ]
        )
    )
    frame = draw(st.sampled_from([0, 4096, 100_000]))
    return Message("large", **{**parts, "body": body}, frame=frame)


@st.composite
def _large_headers(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    name = draw(st.sampled_from(["argsrepr", "filling", "id", "task", "origin", "root_id", "baozi-reason"]))
    size = draw(st.sampled_from([1_000, 65_536, 120_000, 128_000, 129_500, 129_900, 130_000, 130_300]))
    shape: Value = draw(
        st.sampled_from(
            [("S", ("x", size)), ("S", ("é", size // 2)), ("x", (b"\xff", size)), ("A", [("V", None)] * 40)]
        )
    )
    headers = dict(parts["headers"]) | {name: shape}
    return Message("large headers", **{**parts, "headers": list(headers.items())})


@st.composite
def _protocol_1(draw: st.DrawFn) -> Message:
    task = draw(_tasks)
    body: dict[str, Any] = {
        "task": task,
        "id": ID,
        "args": [_TASKS[task]],
        "kwargs": {},
        "retries": 0,
        "eta": None,
    }
    body |= {"expires": None, "utc": True, "callbacks": None, "errbacks": None, "timelimit": [None, None]}
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=3)):
        body[name] = draw(_json_values)
    headers: list[tuple[Any, Value]] | None = draw(st.sampled_from([None, []]))
    return Message("protocol 1", _json(body), headers, dict(_PROPERTIES))


@st.composite
def _strangers(draw: st.DrawFn) -> Message:
    headers = draw(st.none() | st.lists(st.tuples(_names, values), max_size=5))
    changed = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "content_type": _short_texts,
                "content_encoding": _short_texts,
                "message_id": _short_texts,
                "timestamp": _integers(64, signed=False),
                "type": _short_texts,
                "priority": st.integers(0, 255),
            },
        )
    )
    body = draw(
        st.binary(max_size=60) | st.sampled_from([b"", b"null", b"0", b"[]", b"{}", b'""', b"[[],{},{}]"])
    )
    return Message("strangers", [(body, 1)], headers, changed)


@st.composite
def _other_tasks(draw: st.DrawFn) -> Message:
    """Tasks that every Celery app has, and one that dead-letters, sent by another client."""
    names = ["tasks.bury", "celery.accumulate", "celery.backend_cleanup", "celery.chain", "celery.chord"]
    names += [
        "celery.chord_unlock",
        "celery.chunks",
        "celery.group",
        "celery.map",
        "celery.starmap",
        "tasks.none",
    ]
    task = draw(st.sampled_from(names))
    letter = {"body": "eA==", "headers": {}, "properties": {}, "routing_key": "baozi", "reason": NAME}
    args = draw(st.just([letter]) | st.lists(_signatures, max_size=3) | _json_values)
    body = _json([args, draw(st.just({}) | _json_values), _EMBED])
    return Message("other tasks", body, _headers(task), dict(_PROPERTIES))


@st.composite
def _several_frames(draw: st.DrawFn) -> Message:
    parts = _valid(draw(_tasks))
    body = draw(st.sampled_from([parts["body"], [(b"", 1)], [(b" ", 300), *parts["body"]]]))
    return Message("several frames", **{**parts, "body": body}, frame=draw(st.sampled_from([1, 2, 7, 64])))


@st.composite
def _twice(draw: st.DrawFn) -> Message:
    """Names that stand twice in a table, or that are no text."""
    parts = _valid(draw(_tasks))
    more = draw(
        st.lists(
            st.tuples(st.sampled_from([*_READ, b"\xff", b"", "CC", "BCC", "x-match"]), values),
            min_size=1,
            max_size=3,
        )
    )
    headers = parts["headers"] + more if draw(st.booleans()) else more + parts["headers"]
    return Message("names", **{**parts, "headers": headers})


messages: st.SearchStrategy[Message] = st.one_of(
    _wrong_headers(),
    _wrong_headers(),
    _wrong_times(),
    _wrong_limits(),
    _revoked(),
    _wrong_properties(),
    _content_types(),
    _charsets(),
    _compressed(),
    _embeds(),
    _arguments(),
    _damaged(),
    _deep_bodies(),
    _large(),
    _large_headers(),
    _protocol_1(),
    _strangers(),
    _other_tasks(),
    _several_frames(),
    _twice(),
)
