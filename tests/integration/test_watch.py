"""`baozi watch` on a real broker, a real worker and a real ledger, in a real browser."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from baozi.errors import ExitCode
from tests.browser import chromium
from tests.integration.place import Place
from tests.waiting import wait_until

#: Seconds until the page has shown what happened, on a busy machine.
SHOWN = 60


class Watched(NamedTuple):
    """A running `baozi watch`."""

    url: str
    port: str


@contextmanager
def watching(place: Place) -> Iterator[Watched]:
    """Start `baozi watch`. At the end, Ctrl-C must end it at once, also while somebody looks."""
    with place.popen("watch", "--port", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[4]
        try:
            yield Watched(url, url.split("/")[2].partition(":")[2])
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=10)
        assert (code, process.stdout.read(), process.stderr.read()) == (ExitCode.INTERRUPTED, "", "")


def opened(browser: Chrome, watched: Watched, language: str, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get("about:blank")
    browser.get(f"{watched.url}#{language}")
    wait_until(lambda: len(shown(browser)) == 6, "all six sources", timeout=SHOWN)


def shown(browser: Chrome) -> dict[str, Any]:
    """Return what the page has received, by the name of the source."""
    readings: dict[str, Any] = browser.execute_script("return Object.fromEntries(readings)")
    return readings


def fact(browser: Chrome, source: str, name: str) -> str:
    found: str = browser.execute_script(
        "return document.querySelector(arguments[0])?.textContent || ''",
        f"[data-source={source}] [data-fact='{name}']",
    )
    return found


def text(browser: Chrome, source: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, f"[data-source={source}]").text


def test_the_page_shows_the_system_and_replays_a_dead_letter(private_place: Place, tmp_path: Path) -> None:
    place = private_place
    worker = place.worker("小明").process
    place.produce("lunch", "老王", 3)
    with place.producer() as producer:
        for number in range(2):
            place.send_eat(producer, f"no baozi {number}")
    wait_until(lambda: place.eaten("lunch") == 3 and place.waiting("baozi.dead") == 2, "all to be settled")

    with watching(place) as watched, chromium(tmp_path / "profile") as browser:
        opened(browser, watched, "en", 1280)
        assert (fact(browser, "broker", "0-ready"), fact(browser, "broker", "1-ready")) == ("0", "2")
        assert fact(browser, "workers", "workers") == "1"
        assert "小明@" in text(browser, "workers")
        assert "newest 3 baozi" in text(browser, "eating")
        assert re.fullmatch(r"[\d.]+ (ms|s)", fact(browser, "eating", "p99"))
        assert "✓ sound" in text(browser, "runs")
        assert "NotABaozi" in text(browser, "dead_letters")
        assert "No finding." in text(browser, "doctor")

        # In Chinese, on a telephone.
        browser.find_element(By.ID, "language").send_keys(Keys.ENTER)
        assert browser.execute_script("return document.documentElement.lang") == "zh-CN"
        assert "✓ 完好" in text(browser, "runs")
        opened(browser, watched, "zh", 390)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        assert "最新的 3 个包子" in text(browser, "eating")

        # A worker that ends is missed in its own panel only.
        worker.terminate()
        wait_until(lambda: "没有 worker 响应" in text(browser, "workers"), "its absence", timeout=SHOWN)
        assert shown(browser)["eating"]["problem"] is None

        # A letter is replayed, with the keyboard.
        browser.find_element(By.CSS_SELECTOR, "[data-replay]").send_keys(Keys.ENTER)
        told = browser.find_element(By.ID, "told")
        wait_until(lambda: "已回到队列" in told.text, "the answer", timeout=SHOWN)
        wait_until(
            lambda: len(browser.find_elements(By.CSS_SELECTOR, "[data-replay]")) == 1,
            "the letter to be gone from the page",
            timeout=SHOWN,
        )
        wait_until(lambda: place.waiting("baozi.dead") == 1, "the other letter not to be browsed")
        assert place.waiting() == 1
        wait_until(lambda: fact(browser, "broker", "0-ready") == "1", "it in the queue", timeout=SHOWN)
        untyped: Any = browser
        assert [entry for entry in untyped.get_log("browser") if entry["level"] != "INFO"] == []

        # A second one on the same port.
        done = place.run("watch", "--port", watched.port)
        assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
        assert done.stderr == f"Another program listens on port {watched.port}. Choose another with --port.\n"

    # A snapshot as JSON has each source, and the exit code of the first problem.
    (place.home / "ledger.sqlite3").write_text("no database")
    done = place.run("watch", "--json")
    snapshot = json.loads(done.stdout)
    assert done.stderr == ""
    assert done.returncode == snapshot["exit_code"] == snapshot["eating"]["exit_code"] == ExitCode.NO_LEDGER
    assert snapshot["broker"]["facts"]["queues"][0]["ready"] == 1
    assert "No worker answers" in snapshot["workers"]["problem"]
    assert snapshot["runs"]["exit_code"] == ExitCode.NO_LEDGER
