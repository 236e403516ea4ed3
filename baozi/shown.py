"""Escapes text of unknown origin (names, ids, reasons, headers) for a terminal or a log.

A control character can move the cursor, change the title of a window or forge a line of a log; one that gives
the direction of writing can show a text backwards; an invisible one makes two names look the same. Each is
written out: ``\\x1b``, ``\\u202e``.
"""

import json
import unicodedata
from collections.abc import Callable
from math import isfinite
from typing import Any

#: Letters, marks and symbols that nobody can see, though Unicode does not class them with the control
#: characters: the fillers of Hangul and Khmer, selectors of variants, a joiner, an empty Braille pattern
#: (Unicode, DerivedCoreProperties, "Default_Ignorable_Code_Point").
_IGNORABLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_control(letter: str) -> bool:
    """Whether ``letter``, one character, is a control or format character: not seen, but with an effect."""
    return unicodedata.category(letter) in _CONTROLS


def shown(text: object) -> str:
    """Return ``text`` in one line, with unprintable characters escaped.

    Args:
        text: what ``str`` makes of it is shown.
    """
    return _rewritten(str(text), lambda letter: letter.encode("unicode_escape").decode())


def shown_lines(text: object) -> str:
    """Return ``text`` like :func:`shown`, but keep its line breaks."""
    return "\n".join(map(shown, str(text).split("\n")))


def shown_json(line: str) -> str:
    """Return ``line``, which is JSON, with such characters written out as JSON does it: it means the same."""
    return _rewritten(line, lambda letter: json.dumps(letter)[1:-1])


def to_json(value: Any) -> str:
    """Return ``value`` as JSON in one line, as :func:`shown_json` does.

    Args:
        value: anything; what JSON does not have, as bytes, a time or an infinite number, becomes a string.
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
