"""The lesson in a real browser: what it shows is what the journals say, and a reader can play it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from baozi.journal import Entry
from side_by_side.comparison_results import Verdict
from side_by_side.journal_analysis import count
from side_by_side.lesson.lesson_page import PAGE, lesson_in
from side_by_side.lesson.recorded import RecordedRun
from tests.browser import chromium
from tests.waiting import wait_until

#: Parts of a run at which the page is compared with the journal.
MOMENTS = (0, 0.1, 0.25, 0.4, 0.6, 0.8, 0.95, 1)
#: Seconds in which a chapter is played at four times the speed, on a busy machine.
PLAYED = 90


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


def opened(browser: Chrome, place: str, width: int = 1280) -> Chrome:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get("about:blank")
    browser.get(f"{PAGE.as_uri()}#{place}")
    return browser


def recorded() -> list[RecordedRun]:
    return lesson_in(PAGE.read_text(encoding="utf-8")).runs


def sums_until(run: RecordedRun, seconds: float) -> dict[str, int]:
    entries = (
        Entry(at, event, f"lesson/{producer}/{number}")
        for at, event, producer, number, _ in run.lines
        if at <= seconds
    )
    return count(entries).model_dump()


def predict(browser: Chrome, left: Verdict, right: Verdict) -> None:
    for side, verdict in enumerate((left, right)):
        browser.find_element(By.CSS_SELECTOR, f"input[name=side-{side}][value={verdict}]").click()


def audit(browser: Chrome, side: int) -> dict[str, int]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"[data-lane='{side}'] [data-audit]")
    return {str(cell.get_attribute("data-audit")): int(cell.text) for cell in cells}


def complaints(browser: Chrome) -> list[Any]:
    untyped: Any = browser
    return [entry for entry in untyped.get_log("browser") if entry["level"] != "INFO"]


def test_what_the_page_shows_at_each_moment_are_the_sums_of_the_journal(browser: Chrome) -> None:
    runs = recorded()
    opened(browser, "en/1")
    shown = browser.execute_script(
        "return RECORDING.runs.map(run => arguments[0].map(part => stateAt(run, part * run.seconds)))",
        MOMENTS,
    )
    assert len(shown) == len(runs) > 30
    for run, states in zip(runs, shown, strict=True):
        total = len(run.work.producers) * run.work.items
        for part, state in zip(MOMENTS, states, strict=True):
            sums = sums_until(run, part * run.seconds)
            assert state["sums"] == sums, (run.failure, run.transport, part)
            assert sum(state["states"].values()) == len(state["tokens"]) == total, (
                "no token appears or vanishes"
            )
        end = states[-1]
        assert {
            name: number * run.work.tray for name, number in end["sums"].items()
        } == run.counts.model_dump()
        missing = end["states"].get("lost", 0) + end["states"].get("stuck", 0)
        assert missing * run.work.tray == run.counts.lost
        assert end["states"].get("twice", 0) * run.work.tray <= run.counts.duplicated


def test_each_token_is_drawn_once_with_the_state_that_it_has(browser: Chrome) -> None:
    opened(browser, "en/3")
    moments = browser.execute_script("return page.clock.moments.map(moment => moment.shown)")
    for shown in moments[:: len(moments) // 8]:
        browser.execute_script("showAt(arguments[0])", shown)
        for side in (0, 1):
            drawn, counted, known = browser.execute_script(
                "const lane = page.lanes[arguments[0]];"
                "const moment = page.clock.moments[placeNow()].at;"
                "return [[...lane.root.querySelectorAll('.token')].map(token => token.dataset.state),"
                " Object.fromEntries([...lane.root.querySelectorAll('[data-sum] b')].map("
                "  one => [one.parentNode.dataset.sum, Number(one.textContent)])),"
                " stateAt(lane.run, round(moment - page.clock.shifts[arguments[0]])).states]",
                side,
            )
            assert Counter(drawn) == counted == known


def test_each_run_has_its_reason_and_its_names_in_both_languages(browser: Chrome) -> None:
    opened(browser, "en/1")
    missing = browser.execute_script(
        "return RECORDING.runs.map(run => `${run.failure}/${laneKey(run)}`)"
        ".filter(key => !REASONS[key] || !REASONS[key].en || !REASONS[key].zh)"
    )
    assert missing == []
    unused = browser.execute_script(
        "const known = new Set(RECORDING.runs.map(run => `${run.failure}/${laneKey(run)}`));"
        "return Object.keys(REASONS).filter(key => !known.has(key))"
    )
    assert unused == []
    keys = browser.execute_script(
        "const paths = (it, at) => typeof it === 'string' ? [at]"
        " : Object.keys(it).flatMap(key => paths(it[key], `${at}.${key}`));"
        "return [paths(WORDS.en, ''), paths(WORDS.zh, '')]"
    )
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("width", "place", "verdicts"),
    [
        (1280, "en/3", (Verdict.LOST, Verdict.SOUND)),
        (1280, "zh/4", (Verdict.WEDGED, Verdict.SOUND)),
        (390, "zh/2", (Verdict.SOUND, Verdict.WEDGED)),
        (390, "en/6", (Verdict.SOUND, Verdict.LOST)),
    ],
    ids=lambda it: str(it).replace("/", "-"),
)
def test_a_chapter_plays_to_its_end(
    browser: Chrome, width: int, place: str, verdicts: tuple[Verdict, Verdict]
) -> None:
    opened(browser, place, width)
    assert (
        browser.execute_script("return document.documentElement.lang")
        == {"en": "en", "zh": "zh-CN"}[place[:2]]
    )
    browser.find_element(By.ID, "watch").click()
    assert not browser.execute_script("return page.watching"), "it asks for a prediction first"
    predict(browser, *verdicts)
    browser.find_element(By.ID, "watch").click()
    browser.find_element(By.CSS_SELECTOR, "#speed option[value='4']").click()
    wait_until(
        lambda: browser.execute_script("return document.body.dataset.over") == "yes",
        "the end",
        timeout=PLAYED,
    )
    scene = browser.execute_script(
        "return page.lanes.map(lane => [lane.run.failure, lane.run.transport, lane.run.without])"
    )
    for side, key in enumerate(scene):
        run = next(run for run in recorded() if [run.failure, run.transport, run.without] == key)
        assert run.verdict is verdicts[side]
        row = audit(browser, side)
        assert row == {name: getattr(run.counts, name) for name in row}
        assert len(row) == 4
        assert browser.find_element(By.CSS_SELECTOR, f"[data-lane='{side}'] .predicted").text.startswith("✓")
        assert browser.find_element(By.CSS_SELECTOR, f"[data-lane='{side}'] .reason").text
    assert browser.find_element(By.ID, "next").is_displayed()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert complaints(browser) == []


def test_the_keyboard_steps_and_plays(browser: Chrome) -> None:
    opened(browser, "en/3")
    predict(browser, Verdict.SOUND, Verdict.SOUND)
    browser.find_element(By.ID, "watch").send_keys(Keys.ENTER)
    body = browser.find_element(By.TAG_NAME, "body")

    def place() -> int:
        return int(browser.execute_script("return placeNow()"))

    body.send_keys(Keys.HOME)
    assert place() == 0
    body.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert place() == 1
    body.send_keys(Keys.SPACE)
    assert browser.execute_script("return page.playing")
    body.send_keys(Keys.END)
    assert browser.execute_script("return document.body.dataset.over") == "yes"
    assert "some are lost" in str(browser.find_element(By.ID, "announcement").get_attribute("textContent"))
    assert browser.find_element(By.CSS_SELECTOR, "[data-lane='0'] .predicted").text == (
        "You predicted: none is lost, each is eaten once."
    )
    body.send_keys("5")
    assert browser.find_element(By.ID, "heading").text.startswith("5.")


def test_the_language_can_be_switched_in_the_middle(browser: Chrome) -> None:
    opened(browser, "en/3")
    predict(browser, Verdict.LOST, Verdict.SOUND)
    browser.find_element(By.ID, "watch").click()
    browser.execute_script("setPlaying(false); showAt(lastShown() / 2)")
    before = browser.execute_script("return [page.shown, page.predictions]")
    browser.find_element(By.ID, "language").click()
    assert browser.execute_script("return [page.shown, page.predictions]") == before
    assert browser.find_element(By.TAG_NAME, "h1").text == "进程被杀时，包子会怎样？"


@pytest.mark.parametrize("calm", [True, False], ids=["reduced motion", "motion"])
def test_tokens_move_only_if_the_reader_wants_motion(browser: Chrome, calm: bool) -> None:
    preference = {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    opened(browser, "en/3")
    moving = browser.execute_script(
        "page.watching = true; showAt(0); let moving = 0;"
        "for (let number = 0; number < 6; number += 1) {"
        "  step(1); moving += document.getAnimations().length;"
        "}"
        "return moving"
    )
    assert (moving == 0) is calm


def test_free_play_has_each_recorded_run(browser: Chrome) -> None:
    opened(browser, "en/free", 390)
    offered = browser.execute_script(
        "const found = [];"
        "for (const failure of Object.keys(FAILURES)) {"
        "  const lists = () => document.querySelectorAll('#choice select');"
        "  const choose = (list, value) => { list.value = value; list.dispatchEvent(new Event('change')); };"
        "  choose(lists()[0], failure);"
        "  for (const { value } of [...lists()[1].options]) {"
        "    choose(lists()[1], value);"
        "    found.push([failure, laneKey(page.lanes[0].run), document.documentElement.scrollWidth]);"
        "  }"
        "}"
        "return found"
    )
    assert [tuple(it[:2]) for it in offered] == [
        (run.failure, f"{run.transport}/{run.without}" if run.without else run.transport)
        for run in recorded()
    ]
    assert max(width for _, _, width in offered) <= 390
    assert complaints(browser) == []
