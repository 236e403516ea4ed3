"""The benchmarks run, end to end, on a few contenders; what they measure is no test's affair."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.broker import private_node
from tests.requirements import need, need_engine


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=350, check=False)


# Some twenty seconds on a quiet machine. Each of its waits has a shorter limit of its own.
@pytest.mark.timeout(400)
def test_contenders_are_measured_audited_drawn_and_compared_with_the_targets(
    tmp_path: Path,
) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    need_engine()  # for PostgreSQL
    rows = {"publish": ["C client"], "own insert": ["baozi, PostgreSQL"]}
    measures = [word for measure in rows for word in ("--measure", measure)]
    contenders = [word for names in rows.values() for name in names for word in ("--contender", name)]
    done = bench(
        *("--on", "private", *measures, *contenders, "--turns", "1", "--part", "0.01", "--out", str(tmp_path))
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    turns = {(turn["measure"], turn["contender"]): turn for turn in results["turns"]}
    assert all(turn["value"] > 0 for turn in turns.values())
    assert turns["own insert", "baozi, PostgreSQL"]["lost"] == 0
    # The client in C is measured, or its row says what this machine lacks.
    missing = {(gap["measure"], gap["contender"]) for gap in results["gaps"]}
    assert {*turns, *missing} == {(measure, name) for measure, names in rows.items() for name in names}
    assert missing <= {("publish", "C client")}
    assert "<svg" in (tmp_path / "own-insert.svg").read_text()
    assert "baozi, PostgreSQL" in done.stdout

    compared = bench("targets", str(tmp_path / "results.json"), "--json")
    assert compared.returncode == 0, compared.stderr
    said = {row["target"]: row for row in json.loads(compared.stdout)}
    assert said["task events on / off"]["result"] == "not measured"
    assert said["task events on / off"]["reason"] == "not in this run"


@pytest.mark.parametrize("out", ["/proc/none", "/dev/null/none"])
def test_a_folder_that_cannot_be_written_is_one_sentence(out: str) -> None:
    done = bench("--measure", "publish", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The folder {out} cannot be written")


def test_for_an_unknown_contender_the_error_lists_the_known_ones(tmp_path: Path) -> None:
    done = bench("--contender", "nobody", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "celery .delay(), confirmed" in done.stderr
