"""What several unit tests share: the reader's language."""

from collections.abc import Iterator

import pytest

from baozi import language


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process prints Chinese."""
    monkeypatch.setenv("LANGUAGE", "")  # `speak` sets it, and monkeypatch sets it back
    language.speak("zh")
    yield
    language.speak("en")
