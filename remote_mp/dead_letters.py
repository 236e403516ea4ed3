"""Makes the properties of a dead letter in ``remote_mp.dead``: those of the bad message, and the reason.

The properties are copied as bytes. Decoding a value and encoding it again can change it, and some values
cannot be decoded.
"""

from baozi.amqp.decoding import properties
from baozi.amqp.properties import HEADERS, Field, MalformedProperties, field, fields, join, split, table

#: The header with the reason, the same as in the dead letters of ``baozi``.
REASON = "baozi-reason"
_PERSISTENT = b"\2"
#: Properties that are not copied. With an ``expiration``, the copy would expire. With the ``user_id`` of
#: another user, the broker would refuse the copy.
_NOT_COPIED = ("expiration", "user_id")
#: Headers that are not copied: an earlier reason, and the queues to which RabbitMQ would send a copy.
_REPLACED = frozenset({REASON.encode(), b"CC", b"BCC"})
#: Characters of a reason, which may quote the message; and bytes for the sentence on headers left out.
_LONGEST_REASON, _LEFT_OUT_SENTENCE = 500, 80
#: Bytes of a header that the broker reads in a fraction of a second, whatever the header contains.
_QUICK_TO_READ = 1 << 14


def dead_letter_properties(raw: bytes | None, reason: str, room: int) -> bytes:
    """Return the properties of the copy that goes to ``remote_mp.dead``, as bytes with the flags first.

    Args:
        raw: the properties of the message, flags first; None if it has none.
        reason: why the message is not an item.
        room: how many bytes the result may have. Headers for which there is no room are left out, and so are
            large headers that cannot be read. The reason says how many.
    """
    try:
        values = split(raw or b"\0\0")
        headers = fields(values.pop(HEADERS, None))
    except MalformedProperties:
        values, headers = {}, []
    for name in _NOT_COPIED:
        values.pop(name, None)
    values["delivery_mode"] = _PERSISTENT
    headers = [header for header in headers if header.name not in _REPLACED]
    reason_header = field(REASON, reason[:_LONGEST_REASON])
    room -= len(join({**values, HEADERS: table([reason_header])})) + _LEFT_OUT_SENTENCE
    kept = []
    for header in headers:
        if len(header.whole) <= room and not _blocks_broker(header):
            kept.append(header)
            room -= len(header.whole)
    if left_out := len(headers) - len(kept):
        reason_header = field(REASON, f"{reason[:_LONGEST_REASON]} {left_out} of its headers are left out.")
    values[HEADERS] = table([*kept, reason_header])
    return join(values)


def _blocks_broker(header: Field) -> bool:
    # RabbitMQ needs ten seconds and more to read some ten thousand nested tables, and answers nothing
    # meanwhile.
    if len(header.whole) < _QUICK_TO_READ:
        return False
    return properties(join({HEADERS: table([header])})).fault is not None
