"""The report: one file, made from results alone, that is whole whatever the results are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from baozi.errors import ReportNotInstalled
from baozi.language import translated
from baozi.quantities import interval, seconds
from side_by_side import results_folder
from side_by_side.charts.throughput import throughput
from side_by_side.charts.timeline import timeline
from side_by_side.comparison_results import ComparisonResults, Moment, RunKind, Verdict, read_results
from side_by_side.comparison_table import legend, remarks, speed_tables, verdict_table
from side_by_side.faults.registry import COMPARE_FAULTS
from side_by_side.findings import fault_meanings, findings, repeat_advice, transport_meanings, why_not_run
from side_by_side.report import write_report
from side_by_side.results_folder import ResultsFolder
from side_by_side.transports import TRANSPORTS
from tests.unit.sample_results import a_run, sample_results


def page(results: ComparisonResults, folder: Path) -> str:
    write_report(results, folder / "report.html")
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the sample results, which takes a while to draw."""
    return page(sample_results(), tmp_path_factory.mktemp("sample"))


#: Two English words in a row. Names, numbers, units and options do not match.
_ENGLISH = re.compile(r"(?<![-\w])[A-Za-z]{2,} [a-z]{2,}(?![-\w])")


def with_real_meanings() -> ComparisonResults:
    """Return the sample results with the meanings of "accepted" that a comparison writes."""
    means = {name: str(transport.accepted_means) for name, transport in TRANSPORTS.items()}
    return sample_results().model_copy(update={"accepted_means": means})


@pytest.mark.usefixtures("chinese")
def test_in_chinese_the_report_has_no_english_sentence_but_the_errors_of_the_runs(tmp_path: Path) -> None:
    html = page(with_real_meanings(), tmp_path)
    assert '<html lang="zh-CN">' in html
    assert '<p class="finding">rabbitmq-queue 和 celery 在 4 种故障下没有丢失任何包子。</p>' in html
    attributes = re.findall(r'(?:aria-label|data-column)="([^"]+)"', html)
    texts = re.findall(r">([^<]+)<", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    errors = {run.error for run in sample_results().runs}
    english = [it.strip() for it in (*attributes, *texts) if _ENGLISH.search(it)]
    assert [it for it in english if it not in errors] == []
    assert any("每秒包子数" in it for it in texts), "the pictures"
    one_word = {it for it in (*attributes, *texts) if re.fullmatch(r"[a-z]+", it)}
    assert one_word <= {*TRANSPORTS, "celery"}


@pytest.mark.usefixtures("chinese")
def test_in_chinese_the_tables_have_no_english_words_and_fit_eighty_columns() -> None:
    results = with_real_meanings()
    tables = [verdict_table(results), *speed_tables(results)]
    lines = [line for table in tables for line in table.text(80).splitlines()]
    assert max(map(cell_len, lines)) <= 80
    sentences = [translated(it) for it in (*legend(results), *findings(results), *remarks(results))]
    assert [line for line in (*lines, *sentences) if _ENGLISH.search(line)] == []
    assert "全速：3 个生产者各做 2000 个，2 个消费者吃；5 次的中位数和范围。" in sentences


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "baozi", "report", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_refers_to_nothing_outside_itself(html: str) -> None:
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", html)
    assert not re.findall(r"url\(\s*['\"]?(?!#)[^)]*\)", html)
    assert "<script" not in html
    assert "@import" not in html


def test_the_report_shows_every_transport_and_every_unexpected_verdict(html: str) -> None:
    results = sample_results()
    for name, meaning in results.accepted_means.items():
        assert name in html
        assert meaning.replace("'", "&#39;") in html
    surprises = [run for run in results.runs if not run.as_expected]
    assert surprises
    grid = html[html.index('id="verdicts"') : html.index('id="numbers"')]
    assert grid.count("≠ expected:") == len(surprises)
    assert "unstable" in html
    assert str(results.seed) in html.replace(",", "")


def test_it_begins_with_its_finding_and_with_the_machine(html: str) -> None:
    top = html[html.index("<h1>") : html.index('id="verdicts"')]
    assert '<p class="finding">rabbitmq-queue and celery lost nothing under 4 faults.</p>' in top
    assert "file-lock and pipe-lock lost baozi or did not finish under 1 of 3 faults." in top
    assert "queue and joinable-queue lost baozi or did not finish under 3 of 3 faults." in top
    assert "8 cores" in top
    assert "RabbitMQ 3.10.8" in top
    headings = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', html)
    assert re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', top) == headings


def test_each_transport_fault_and_column_is_explained_once(html: str) -> None:
    results = sample_results()
    meanings = {**transport_meanings(results), **fault_meanings(results)}
    assert meanings.keys() == {*results.accepted_means, *COMPARE_FAULTS}
    for meaning in meanings.values():
        assert html.count(meaning.replace("'", "&#39;")) == 1
    headings = set(re.findall(r'data-column="([^"]+)"', html[html.index('id="numbers"') :]))
    explained = " ".join(re.findall(r"<dt>([^<]+)</dt>", html))
    assert headings
    for heading in headings:
        assert heading in explained or heading.replace("latency ", "") in explained


def test_a_cell_says_how_many_of_how_many_or_why_there_was_no_run(html: str) -> None:
    grid = html[html.index('id="verdicts"') : html.index('id="numbers"')]
    lost = next(run.counts for run in sample_results().runs if run.verdict is Verdict.LOST)
    assert f"lost {lost.lost} of {lost.accepted:,}" in grid
    assert "ate 3 of 6,000 twice" in grid
    assert grid.count("No process stores the baozi.") == 4
    assert why_not_run(sample_results(), "queue", "other") == "The comparison was not asked for it."
    cut = sample_results().model_copy(update={"finished": False})
    assert "interrupted" in why_not_run(cut, "celery", "kill-store")


def test_an_unstable_figure_is_a_range_with_a_proposal_to_repeat(tmp_path: Path) -> None:
    rates = ((10.0, 41.0), (20.0, 41.5), (33.0, 42.0))
    runs = [a_run(accepted_per_second=accepted, eaten_per_second=eaten) for accepted, eaten in rates]
    results = sample_results().model_copy(update={"runs": runs, "repeat": 3})
    html = page(results, tmp_path)
    numbers = html.partition('id="numbers"')[2].partition("</section>")[0]
    assert '<span class="value">20</span>' not in numbers
    assert '<span class="value">41.5</span>' in numbers
    advice = repeat_advice(results)
    assert advice is not None
    assert "queue" in advice
    assert "--repeat 10" in advice
    assert advice in html
    # Fewer accepted than eaten in a second is explained.
    assert "On queue, fewer baozi were accepted per second than eaten." in numbers
    steady = results.model_copy(update={"runs": [run for run in runs if run.accepted_per_second == 20] * 2})
    assert repeat_advice(steady) is None
    once = results.model_copy(update={"runs": runs[:1]})
    assert "--repeat 5" in str(repeat_advice(once))


def test_dots_and_not_bars_are_on_a_logarithmic_axis() -> None:
    drawn = throughput(sample_results())
    assert drawn is not None
    assert "each line is ten times the one before" in drawn.wide
    filled = r"<path d=\"[^\"]*z\"[^>]*style=\"[^\"]*fill: var\(--c"
    assert not re.search(filled, drawn.wide), "a bar"
    assert len(re.findall(r"<use ", drawn.wide)) > 16, "dots"


@pytest.mark.parametrize("width", [60, 80])
def test_no_heading_and_no_cell_of_the_tables_is_cut_off(width: int) -> None:
    for table in (verdict_table(sample_results()), *speed_tables(sample_results())):
        text = table.text(width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for row in table.rows:
            assert all(line in text for cell in row for line in cell.splitlines())
        # A heading that is broken over lines is whole without their ends.
        assert "kill-busy" in text or "accepted/s" in text or "p50" in text


def test_each_picture_has_a_title_and_a_description(html: str) -> None:
    pictures = re.findall(r'<svg [^>]*role="img"[^>]*>(.*?)</svg>', html, re.DOTALL)
    assert len(pictures) >= 3
    for picture in pictures:
        assert re.search(r"<title id='[^']+'>[^<]+</title><desc id='[^']+'>[^<]+</desc>", picture)
    ids = re.findall(r"\bid=[\"']([^\"']+)[\"']", html)
    assert len(ids) == len(set(ids)), "two elements have one id"


def test_text_of_another_client_is_shown_as_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = a_run(evil, error=evil, eaten_by={evil: 3}, verdict=Verdict.LOST)
    html = page(sample_results().model_copy(update={"runs": [run], "accepted_means": {evil: evil}}), tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("name", ["队列", "$x$", "a" * 300, "two\nlines", " "], ids=repr)
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    runs = [run.model_copy(update={"transport": name}) for run in sample_results().runs[:1]]
    at_rate = next(run for run in sample_results().runs if run.latency)
    runs.append(at_rate.model_copy(update={"transport": name}))
    html = page(sample_results().model_copy(update={"runs": runs, "accepted_means": {}}), tmp_path)
    assert name in html


def test_of_each_kind_of_run_the_timeline_shows_the_one_that_was_not_as_expected() -> None:
    moments = [Moment(at=0, accepted=0, eaten=0), Moment(at=1, accepted=9, eaten=9)]
    runs = [a_run(order=order, timeline=moments) for order in range(3)]
    runs[1] = runs[1].model_copy(update={"verdict": Verdict.LOST})
    drawn = timeline(sample_results().model_copy(update={"runs": runs}))
    assert [panel.run for panel in drawn["queue"]] == [runs[1]]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.0011, 0.0022, "1.1 – 2.2 ms"), (0.0009, 0.0022, "900 µs – 2.2 ms"), (0.0, 3.0, "0 – 3 s")],
)
def test_an_interval_names_a_shared_unit_once(low: float, high: float, said: str) -> None:
    assert interval(seconds(low), seconds(high)) == said


@pytest.mark.parametrize("measure", RunKind)
def test_results_with_one_kind_of_run_alone_make_a_report(tmp_path: Path, measure: RunKind) -> None:
    runs = [run for run in sample_results().runs if run.measure is measure]
    assert "queue" in page(sample_results().model_copy(update={"runs": runs}), tmp_path)


def test_results_that_were_interrupted_say_so(tmp_path: Path) -> None:
    partial = {"runs": [a_run()], "finished": False}
    assert "was interrupted" in page(sample_results().model_copy(update=partial), tmp_path)


def test_results_without_a_run_make_a_report(tmp_path: Path) -> None:
    assert "There are no runs" in page(sample_results().model_copy(update={"runs": []}), tmp_path)


@pytest.mark.slow
def test_the_command_makes_the_report_of_a_folder(tmp_path: Path, html: str) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    done = report(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == html
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text[: len(text) // 2], "was cut off or is not JSON"),
        (lambda text: text.replace('"format":2', '"format":1'), "another format version"),
        (lambda text: re.sub('"seed":[0-9]+', '"seed":NaN', text), "is not a results file of baozi (seed)"),
        (
            lambda text: re.sub('"made_at":[0-9.]+', '"made_at":NaN', text),
            "is not a results file of baozi (made_at)",
        ),
        (lambda _: '{"hello": "baozi"}', "is not a results file of baozi"),
        (lambda _: "[1, 2]", "is not a results file of baozi"),
        (
            lambda text: json.dumps(json.loads(text) | {"colour": "red"}),
            "is not a results file of baozi (colour)",
        ),
    ],
    ids=[
        "cut short",
        "of another version",
        "no number",
        "no time",
        "another's",
        "a list",
        "with a field too many",
    ],
)
def test_a_damaged_results_file_is_reported_in_one_sentence(tmp_path: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    (tmp_path / "results.json").write_text(spoil(sample_results().model_dump_json()))
    done = report(tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not (tmp_path / "report.html").exists()


def test_a_missing_results_file_is_reported_in_one_sentence(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_comparison_that_could_make_no_report_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_folder, "_LIBRARIES", ("jinja2", "a_library_that_is_not_here"))
    with pytest.raises(ReportNotInstalled, match=r"matplotlib and jinja2, which are not installed"):
        ResultsFolder(tmp_path)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    (tmp_path / "report.html").mkdir()
    done = report(tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_written_value_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    assert read_results(tmp_path / "results.json") == sample_results()
