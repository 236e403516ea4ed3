"""The report: one file, made from results alone, that is whole whatever the results are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from side_by_side.report import write_report
from side_by_side.results import Measure, Results, Verdict, read_results
from tests.unit.sample_results import a_run, sample_results


def page(results: Results, folder: Path) -> str:
    write_report(results, folder / "report.html")
    return (folder / "report.html").read_text()


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "report", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    html = page(sample_results(), tmp_path)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", html)
    assert not re.findall(r"url\(\s*['\"]?(?!#)[^)]*\)", html)
    assert "<script" not in html
    assert "@import" not in html


def test_every_transport_and_every_unexpected_verdict_stands_in_it(tmp_path: Path) -> None:
    results = sample_results()
    html = page(results, tmp_path)
    for name, meaning in results.accepted_means.items():
        assert name in html
        assert meaning.replace("'", "&#39;") in html
    surprises = [run for run in results.runs if not run.as_expected]
    assert surprises
    assert html.count("≠ expected:") == len(surprises)
    assert "unstable" in html
    assert str(results.seed) in html.replace(",", "")


def test_each_picture_has_a_name_and_says_what_it_shows(tmp_path: Path) -> None:
    html = page(sample_results(), tmp_path)
    pictures = re.findall(r'<svg [^>]*role="img"[^>]*>(.*?)</svg>', html, re.DOTALL)
    assert len(pictures) >= 3
    for picture in pictures:
        assert re.search(r"<title id='[^']+'>[^<]+</title><desc id='[^']+'>[^<]+</desc>", picture)
    ids = re.findall(r"\bid=[\"']([^\"']+)[\"']", html)
    assert len(ids) == len(set(ids)), "two elements have one id"


def test_a_strangers_text_is_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = a_run(evil, error=evil, eaten_by={evil: 3}, verdict=Verdict.LOST)
    html = page(sample_results().model_copy(update={"runs": [run], "accepted_means": {evil: evil}}), tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("measure", Measure)
def test_results_with_one_kind_of_run_alone_make_a_report(tmp_path: Path, measure: Measure) -> None:
    runs = [run for run in sample_results().runs if run.measure is measure]
    assert "queue" in page(sample_results().model_copy(update={"runs": runs}), tmp_path)


def test_results_that_were_interrupted_say_so(tmp_path: Path) -> None:
    partial = {"runs": [a_run()], "finished": False}
    assert "was interrupted" in page(sample_results().model_copy(update=partial), tmp_path)


def test_results_without_a_run_make_a_report(tmp_path: Path) -> None:
    assert "There are no runs" in page(sample_results().model_copy(update={"runs": []}), tmp_path)


def test_the_command_makes_the_report_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    done = report(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == page(sample_results(), tmp_path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text[: len(text) // 2], "was cut short or is no JSON"),
        (lambda text: text.replace('"format":1', '"format":2'), "another version"),
        (lambda _: '{"hello": "baozi"}', "is not ours"),
        (lambda _: "[1, 2]", "is not ours"),
        (lambda text: json.dumps(json.loads(text) | {"colour": "red"}), "is not ours (colour)"),
    ],
    ids=["cut short", "of another version", "another's", "a list", "with a field too many"],
)
def test_a_spoilt_results_file_is_said_in_one_sentence(tmp_path: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    (tmp_path / "results.json").write_text(spoil(sample_results().model_dump_json()))
    done = report(tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not (tmp_path / "report.html").exists()


def test_a_missing_results_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    (tmp_path / "report.html").mkdir()
    done = report(tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(sample_results().model_dump_json())
    assert read_results(tmp_path / "results.json") == sample_results()
