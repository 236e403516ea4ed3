"""The benchmarks run, end to end, on two contenders; what they measure is no test's affair."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baozi.broker import temporary as temporary_broker
from tests.requirements import need


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    need(temporary_broker.can_run(), "no broker can be run here")
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def test_ours_and_a_peer_are_measured_in_turns_audited_and_drawn(tmp_path: Path) -> None:
    only = ["--contender", "baozi, processes: 1, trays", "--contender", "celery .delay(), confirmed"]
    done = bench(
        "--measure",
        "publish",
        "--measure",
        "growth",
        *only,
        "--turns",
        "2",
        "--part",
        "0.05",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    turns = json.loads((tmp_path / "results.json").read_text())["turns"]
    assert [(turn["measure"], turn["turn"]) for turn in turns] == [
        ("publish", 0),
        ("publish", 1),
        ("growth", 0),
        ("growth", 1),
    ]
    assert all(turn["value"] > 0 for turn in turns)
    assert [turn["lost"] for turn in turns if turn["measure"] == "growth"] == [0, 0]
    assert "<svg" in (tmp_path / "publish.svg").read_text()
    assert "celery .delay(), confirmed" in done.stdout


@pytest.mark.parametrize("out", ["/proc/none", "/dev/null/none"])
def test_a_folder_that_cannot_be_written_is_one_sentence(out: str) -> None:
    done = bench("--measure", "publish", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The folder {out} cannot be written")


def test_for_an_unknown_contender_the_error_lists_the_known_ones(tmp_path: Path) -> None:
    done = bench("--contender", "nobody", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "celery .delay(), confirmed" in done.stderr
