"""Escapes text of unknown origin (names, ids, reasons, headers) so that a terminal or a log can show it.

A control character can move the cursor, change a window's title or forge a line of a log. A bidirectional
control can show text backwards. An invisible character can make two names look the same. Each is replaced by
its escape sequence, such as ``\\x1b`` or ``\\u202e``.
"""

import json
import unicodedata
from collections.abc import Callable
from math import isfinite
from typing import Any

#: Invisible characters that Unicode does not class as control or format characters: fillers of Hangul and
#: Khmer, variation selectors, a joiner, an empty Braille pattern. All but the last are in Unicode's
#: DerivedCoreProperties, "Default_Ignorable_Code_Point".
_IGNORABLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_control(letter: str) -> bool:
    """Return whether ``letter``, one character, is invisible but has an effect."""
    return unicodedata.category(letter) in _CONTROLS


def shown(text: object) -> str:
    """Return ``text`` in one line, with unprintable characters escaped.

    Args:
        text: any object; ``str`` converts it.
    """
    return _rewritten(str(text), lambda letter: letter.encode("unicode_escape").decode())


def shown_lines(text: object) -> str:
    """Return ``text`` like :func:`shown`, but keep its line breaks."""
    return "\n".join(map(shown, str(text).split("\n")))


def shown_json(line: str) -> str:
    """Return ``line``, which is JSON, with unprintable characters replaced by JSON's escapes."""
    return _rewritten(line, lambda letter: json.dumps(letter)[1:-1])


def to_json(value: Any) -> str:
    """Return ``value`` as one line of JSON, with unprintable characters as JSON escapes.

    Args:
        value: any object. What JSON does not have, such as bytes, a time or an infinite number, becomes a
            string.
    """
    return shown_json(json.dumps(_finite(value), ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(it) for name, it in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(it) for it in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _rewritten(text: str, written_out: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() and letter not in _IGNORABLE else written_out(letter)
        for letter in text
    )
