"""Text in the columns of a terminal, where a Chinese character takes two."""

import re
from unicodedata import east_asian_width

#: What a line may be broken before: a word, or one wide character. Both have the punctuation that closes or
#: opens around them, because no line begins with a comma.
_PIECE = re.compile(
    r"\s*[（“‘《]*(?:[\u3400-\u9fff]|[^\s\u3400-\u9fff（《，。；：、）》！？]+|)[，。；：、）”’》！？…]*"
)


def width(text: str) -> int:
    """Return how many columns ``text`` takes."""
    return len(text) + sum(east_asian_width(letter) in "WF" for letter in text if not letter.isascii())


def padded(text: str, columns: int) -> str:
    """Return ``text`` with spaces at its end, so that it takes this many columns."""
    return text + " " * (columns - width(text))


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Return one paragraph in lines that take at most this many columns.

    Args:
        text: a word that is longer than a line is not broken.
        columns: how many.
        indent: what all lines but the first begin with.
    """
    lines: list[str] = []
    line = ""
    for piece in _PIECE.findall(text):
        if line.strip() and width((line + piece).rstrip()) > columns:
            lines.append(line.rstrip())
            line = indent + piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]
