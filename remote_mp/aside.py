"""The properties of a message that is put aside: as it came, and the reason.

The bytes stay what they are: a value that is decoded and encoded again is another value, and some cannot be
decoded.
"""

from baozi.amqp.decoding import properties
from baozi.amqp.properties import HEADERS, Field, Malformed, field, fields, join, split, table

#: The header that the project's other dead letters have their reason in.
REASON = "baozi-reason"
_PERSISTENT = b"\2"
#: Properties that do not go along: a time to live would end the copy; another user's id has the broker refuse
#: it.
_NOT_KEPT = ("expiration", "user_id")
#: Headers that do not go along: the reason of an earlier time, and the queues that RabbitMQ sends a copy to.
_REPLACED = frozenset({REASON.encode(), b"CC", b"BCC"})
#: Characters of a reason, which may quote what came; and the bytes of what it may say of headers left out.
_LONGEST_REASON, _SUFFIX = 500, 80
#: Bytes of a header that the broker reads in a fraction of a second, whatever it is.
_SURELY_QUICK = 1 << 14


def put_aside(raw: bytes | None, reason: str, room: int) -> bytes:
    """Return the properties of the copy that goes to the dead.

    Args:
        raw: those of the message, flags first; None if there are none.
        reason: why it is put aside.
        room: bytes that they may have. Headers for which there is none are left out, as are large ones that
            cannot be read, and the reason says how many.
    """
    try:
        values = split(raw or b"\0\0")
        headers = fields(values.pop(HEADERS, None))
    except Malformed:
        values, headers = {}, []
    for name in _NOT_KEPT:
        values.pop(name, None)
    values["delivery_mode"] = _PERSISTENT
    headers = [header for header in headers if header.name not in _REPLACED]
    told = field(REASON, reason[:_LONGEST_REASON])
    room -= len(join({**values, HEADERS: table([told])})) + _SUFFIX
    kept = []
    for header in headers:
        if len(header.whole) <= room and not _holds_up(header):
            kept.append(header)
            room -= len(header.whole)
    if left_out := len(headers) - len(kept):
        told = field(REASON, f"{reason[:_LONGEST_REASON]} {left_out} of its headers are left out.")
    values[HEADERS] = table([*kept, told])
    return join(values)


def _holds_up(header: Field) -> bool:
    # RabbitMQ takes ten seconds and more for some ten thousand tables, each in the one before, and answers
    # nothing else meanwhile.
    if len(header.whole) < _SURELY_QUICK:
        return False
    return properties(join({HEADERS: table([header])})).fault is not None
