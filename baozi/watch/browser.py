"""Opens a page in the user's browser, without showing its address to other users of the machine."""

import html
import os
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def opened(url: str) -> Iterator[bool]:
    """Open ``url`` in a browser if there is one with a window. Yield whether there is.

    Every user can read the arguments of a browser's process. So the browser gets the name of a private file
    that leads to the page. The file is deleted after the block.
    """
    browser = _browser()
    if browser is None:
        yield False
        return
    handle, name = tempfile.mkstemp(prefix="baozi-", suffix=".html")  # mode 600
    file = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(
                f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
                f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">'
                f'<a href="{html.escape(url)}">baozi</a>'
            )
        yield browser.open(file.as_uri())
    finally:
        with suppress(OSError):
            file.unlink()


def _browser() -> webbrowser.BaseBrowser | None:
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return None
    # A browser in the terminal would take it over. The module has only those as this class itself.
    return None if type(found) is webbrowser.GenericBrowser else found
