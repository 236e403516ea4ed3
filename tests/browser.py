"""Debian's Chromium, without a screen: what is for a user's eyes is looked at as a user does."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.requirements import need

#: Seconds that the distribution may take to deliver a browser.
_INSTALL_TIMEOUT = 600

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Yield a browser whose ``profile`` is in this folder."""
    if shutil.which("chromedriver") is None and shutil.which("apt-get") and os.geteuid() == 0:
        _install()
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    need(driver is not None and program is not None, "this machine has no chromium and chromedriver")
    options = ChromeOptions()
    options.binary_location = str(program)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    chrome = Chrome(options, ChromeService(str(driver)))
    try:
        yield chrome
    finally:
        chrome.quit()


def _install() -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update"],
        ["install", "-y", "--no-install-recommends", "chromium", "chromium-driver"],
    ):
        command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *arguments]
        subprocess.run(command, env=quiet, timeout=_INSTALL_TIMEOUT, check=False, capture_output=True)
