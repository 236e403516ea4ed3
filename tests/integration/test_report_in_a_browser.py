"""The report in a real browser: it is read there as a user reads it, on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from side_by_side.report import write_report
from tests.browser import chromium
from tests.unit.sample_results import sample_results


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(sample_results(), path)
    return path


@pytest.fixture
def opened(browser: Chrome, report: Path) -> Chrome:
    """The browser with the report of the sample results."""
    browser.get(report.as_uri())
    return browser


def test_its_table_is_the_grid_of_verdicts(opened: Chrome) -> None:
    results = sample_results()
    table = opened.find_element(By.CSS_SELECTOR, "table.grid")
    rows = {
        # The transport's name, without the sentence that explains it.
        row.find_element(By.TAG_NAME, "th").text.splitlines()[0]: [
            cell.text for cell in row.find_elements(By.TAG_NAME, "td")
        ]
        for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
    }
    assert list(rows) == list(results.accepted_means)
    for run in results.runs:
        if run.fault == "kill-busy-consumer":
            assert run.verdict in rows[run.transport][1]
    assert sum("≠ expected" in cell for row in rows.values() for cell in row) == sum(
        not run.as_expected for run in results.runs
    )


def test_a_link_of_the_contents_leads_to_its_section(opened: Chrome) -> None:
    links = opened.find_elements(By.CSS_SELECTOR, "nav a")
    assert [link.text for link in links] == [it.text for it in opened.find_elements(By.TAG_NAME, "h2")]
    links[-1].click()
    assert opened.execute_script("return location.hash") == "#measured"
    assert opened.find_element(By.CSS_SELECTOR, ":target").text == links[-1].text


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(opened: Chrome, width: int) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    assert opened.execute_script("return window.innerWidth") == width
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    shown = [
        picture
        for picture in opened.find_elements(By.CSS_SELECTOR, "svg[role=img]")
        if picture.is_displayed()
    ]
    assert len(shown) >= 3
    for picture in shown:
        assert picture.rect["x"] >= 0
        assert picture.rect["x"] + picture.rect["width"] <= width


def test_the_browser_has_nothing_to_complain_of(opened: Chrome) -> None:
    untyped: Any = opened
    assert [entry for entry in untyped.get_log("browser") if entry["level"] != "INFO"] == []
