"""`baozi demo --watch` in a real browser: a reader kills real processes and sees the audits change."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import psutil
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from baozi.errors import ExitCode
from tests.browser import chromium
from tests.waiting import wait_until

#: Seconds for RabbitMQ, the workers and a round of four seconds, on a busy machine.
STARTED, PLAYED = 100, 100


@contextmanager
def performing(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start the demo. At the end, Ctrl-C must end it and all that it has started."""
    environment = {**os.environ, "BAOZI_HOME": str(home)}
    command = [sys.executable, "-m", "baozi", "demo", "--watch", "--json", "--pace", "0.4"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        started = psutil.Process(process.pid)
        try:
            yield json.loads(line)["url"], started
            children = started.children(recursive=True)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)
        assert (code, process.stdout.read(), process.stderr.read()) == (ExitCode.INTERRUPTED, "", "")
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == [], "nothing that the demo has started runs on"


def facts(browser: Chrome, side: str) -> dict[str, Any]:
    told: dict[str, Any] = browser.execute_script("return page.readings.get(arguments[0])?.facts || {}", side)
    return told


def press(browser: Chrome, side: int, zone: str, doing: str) -> None:
    where = f"[data-lane='{side}'] [data-zone='{zone}'] [data-doing={doing}]"
    wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, where), f"the button {doing} of {zone}")
    browser.find_element(By.CSS_SELECTOR, where).send_keys(Keys.ENTER)


def audit(browser: Chrome, side: int) -> dict[str, int]:
    cells: dict[str, str] = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll(arguments[0])].map("
        "cell => [cell.dataset.audit, cell.textContent]))",
        f"[data-lane='{side}'] [data-audit]",
    )
    return {name: int(text) for name, text in cells.items()}


def refused(url: str, **wanted: str) -> int:
    """Return the status of a request of the page that does not offer it."""
    request = Request(f"{url}act", json.dumps(wanted).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Origin", "http://" + urlsplit(url).netloc)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def width(browser: Chrome, pixels: int) -> None:
    metrics = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_a_killed_consumer_loses_a_baozi_of_the_queue_and_none_of_rabbitmq(tmp_path: Path) -> None:
    with performing(tmp_path) as (url, process), chromium(tmp_path / "profile") as browser:
        width(browser, 1280)
        browser.get(f"{url}#en")
        assert browser.find_elements(By.CSS_SELECTOR, ".lane") == [], "nothing starts before the reader asks"
        browser.find_element(By.ID, "start").click()
        wait_until(
            lambda: all(facts(browser, side).get("counts", {}).get("eaten") for side in ("left", "right")),
            "both sides to eat",
            timeout=STARTED,
        )
        assert refused(url, side="left", doing="kill", role="consumer", name=str(process.pid)) == 409
        assert refused(url, side="left", doing="kill", role="store", name="RabbitMQ") == 409
        assert refused(url, side="right", doing="restart", role="consumer", name="小明") == 409
        assert process.is_running()

        for side in (0, 1):
            press(browser, side, "consumer:小明", "kill")
        wait_until(
            lambda: all(
                {"role": "consumer", "name": "小明", "condition": "killed", "doings": ["restart"]}
                in facts(browser, side)["parts"]
                for side in ("left", "right")
            ),
            "both to be killed",
        )
        press(browser, 1, "consumer:小红", "freeze")
        press(browser, 1, "consumer:小红", "thaw")
        press(browser, 1, "consumer:小明", "restart")

        browser.find_element(By.ID, "language").click()
        assert browser.execute_script("return document.documentElement.lang") == "zh-CN"
        width(browser, 390)
        # The Queue has lost what was in the hand of the killed one, or is stuck if that held its lock.
        wait_until(
            lambda: (
                facts(browser, "left")["progress"] in {"over", "stuck"}
                and facts(browser, "right")["progress"] == "over"
            ),
            "the end of both",
            timeout=PLAYED,
        )
        wait_until(lambda: audit(browser, 1).get("eaten") == 30, "the audit of RabbitMQ", timeout=PLAYED)
        assert audit(browser, 1) == {"accepted": 30, "eaten": 30, "lost": 0, "duplicated": 0}
        left = audit(browser, 0)
        assert left["lost"] >= 1
        assert left["eaten"] == left["accepted"] - left["lost"]
        drawn = browser.find_elements(By.CSS_SELECTOR, "[data-lane='0'] .token")
        assert len(drawn) == 30, "no token appears or vanishes"
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        untyped: Any = browser
        # The requests that were refused above were not the browser's.
        assert [entry for entry in untyped.get_log("browser") if entry["level"] != "INFO"] == []
