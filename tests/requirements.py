"""What a test needs of the machine. Locally a lack skips the test; in CI, where all must be there, it fails."""

import os

import pytest


def need(condition: bool, what: str) -> None:
    """Go on if ``condition`` holds; else skip, or, where the variable CI is set, fail. ``what`` is lacking."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}", pytrace=False)
    pytest.skip(f"needs {what}")
