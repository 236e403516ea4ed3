"""The lesson's page: one file that opens offline, made from the recording and the folder ``page``."""

import re
from pathlib import Path

from side_by_side.lesson.recorded import RecordedLesson

#: Where ``make lesson`` writes it.
PAGE = Path(__file__).parents[2] / "docs" / "lesson" / "index.html"

_PARTS = Path(__file__).parent / "page"
#: Where a part of the page is put into lesson.html.
_PART = re.compile(r"^@@ (\S+)\n", re.MULTILINE)
_RECORDING = re.compile(r'<script type="application/json" id="recording">(.*?)</script>', re.DOTALL)


def page_of(lesson: RecordedLesson) -> str:
    """Return the page that replays ``lesson``."""
    # In HTML, "</script>" would end the recording.
    recording = lesson.model_dump_json().replace("<", "\\u003c").replace('{"failure"', '\n{"failure"')
    return _PART.sub(
        lambda part: f"{recording}\n" if part[1] == "recording" else _read(part[1]), _read("lesson.html")
    )


def _read(part: str) -> str:
    return (_PARTS / part).read_text(encoding="utf-8")


def lesson_in(page: str) -> RecordedLesson:
    """Return the recording that a page replays.

    Raises:
        ValueError: there is none in it, or it has another form.
    """
    found = _RECORDING.search(page)
    if found is None:
        raise ValueError("the page has no recording")
    return RecordedLesson.model_validate_json(found[1])
