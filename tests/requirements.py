"""What a test needs of the machine: a lack skips it locally, and fails it in CI, where all must be there."""

import os

import pytest


def need(condition: bool, what: str) -> None:
    """Go on if ``condition`` holds; else skip, or fail where the variable CI is set. ``what`` is the lack."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing may be skipped: {what}", pytrace=False)
    pytest.skip(what)
