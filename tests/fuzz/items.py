"""Messages for a queue of remote_mp, as Hypothesis strategies."""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.hostile import (
    _READ,
    _short_texts,
    messages,
)
from tests.fuzz.messages import (
    NAME,
    Message,
    _integers,
    _json,
    _json_values,
    _names,
    values,
)


def good_item() -> Message:
    """Return an item of a remote_mp queue that must be got."""
    return Message("good", _json([NAME]), None, {"content_type": "application/json", "delivery_mode": 2})


@st.composite
def _items(draw: st.DrawFn) -> Message:
    """Nearly an item of a queue of remote_mp, or nearly word of what is done."""
    changed: dict[str, Any] = {"content_type": "application/json", "message_id": "0-0", "delivery_mode": 2}
    changed |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "content_type": _short_texts,
                "message_id": _short_texts
                | st.sampled_from(["a-1", "-", "a-", "a-\u0663", "a-²", "a-" + "9" * 200, NAME]),
                "reply_to": _short_texts | st.sampled_from(["remote_mp.q.q", "remote_mp.done.0", "nowhere"]),
                "timestamp": _integers(64, signed=False),
                "content_encoding": _short_texts,
                "priority": st.integers(0, 255),
                "type": _short_texts,
            },
        )
    )
    headers = draw(st.none() | st.lists(st.tuples(st.sampled_from(_READ) | _names, values), max_size=3))
    body = draw(
        st.one_of(
            st.lists(_json_values, max_size=3).map(_json),
            _json_values.map(_json),
            st.binary(max_size=30).map(lambda it: [(it, 1)]),
            st.sampled_from([10, 990, 100_000]).map(lambda it: [(b"[", it), (b"]", it)]),
            st.sampled_from([1_000, 20_000]).map(lambda it: [(b"[", 1), (b"1,", it), (b"1]", 1)]),
            st.sampled_from([[(b"[1e999]", 1)], [(b"[NaN]", 1)], [(b"[", 1), (b"9", 5000), (b"]", 1)]]),
        )
    )
    return Message("items", body, headers, changed, frame=draw(st.sampled_from([0, 0, 0, 1, 100])))


items: st.SearchStrategy[Message] = st.one_of(_items(), _items(), messages)
