"""What a test needs of the machine: a lack skips it locally, and fails it in CI, where all must be there."""

import os
from functools import cache

import pytest

from baozi.broker import engine


def need(condition: bool, what: str) -> None:
    """Go on if ``condition`` holds; else skip, or fail where the variable CI is set. ``what`` is the lack."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing may be skipped: {what}", pytrace=False)
    pytest.skip(what)  # on a machine that lacks it, the other tests still tell something


def need_engine() -> None:
    """Go on if there is a Docker engine. All say the same, for pytest makes one line of that."""
    need(_engine_answers(), "no Docker engine answers, so nothing is tested in containers")


_engine_answers = cache(engine.answers)
