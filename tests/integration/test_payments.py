"""The example of payments: both apps under the same faults, in short, as a user runs it."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from baozi.broker import engine, private_node
from examples.payments.faults import Fault, chosen
from tests import running
from tests.requirements import need

KILLS, PAYMENTS = 8, 600


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return running.run([sys.executable, "-m", "examples.payments", *arguments], timeout=280)


def processes_of(folder: Path) -> list[int]:
    """Workers and producers have the folder in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("BAOZI_HOME", "").startswith(str(folder)):
                found.append(process.pid)
    return found


@pytest.mark.timeout(300)
def test_reliable_books_each_payment_once_whatever_is_killed(tmp_path: Path) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    out = tmp_path / "out"
    sizes = ["--payments", str(PAYMENTS), "--kills", str(KILLS), "--seed", "1"]
    done = run(*sizes, "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"The results are in {out}/results.json, the logs beside it."
    results = json.loads(done.stdout)
    assert results["database"] == ("postgresql" if engine.answers() else "sqlite")
    for part in (results["plain"], results["reliable"]):
        assert part["accepted"] == PAYMENTS
        assert part["once"] + part["lost"] + part["twice"] == PAYMENTS
        kills = [it for it in part["faults"] if Fault(it["fault"]).kills]
        assert len(kills) == KILLS
        assert {it["fault"] for it in kills} == {it for it in Fault if it.kills}
        assert all(it["in_flight"] > 0 for it in part["faults"]), part["faults"]
    same = [[it["fault"] for it in results[name]["faults"]] for name in ("plain", "reliable")]
    assert same[0] == same[1]
    sound = results["reliable"]
    assert (sound["once"], sound["lost"], sound["twice"], sound["difference"]) == (PAYMENTS, 0, 0, 0)
    # A difference without a cause, or a cause without a difference, would be a fault of the sums.
    plain = results["plain"]
    assert bool(plain["difference"]) == bool(plain["lost"] or plain["twice"])
    assert processes_of(out) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_seed_alone_chooses_the_faults_and_each_comes_up(seed: int) -> None:
    faults = list(chosen(seed, 200, has_server=True))
    assert faults == list(chosen(seed, 200, has_server=True))
    assert sum(fault.kills for fault in faults) == 200
    assert set(Counter(faults)) == set(Fault)
    assert Fault.CUT_DATABASE not in chosen(seed, 200, has_server=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--payments", "100", "--kills", "50"], "50 kills need at least 1000 payments"),
        (["--database", "oracle"], "There is no database 'oracle'; there are postgresql and sqlite."),
        (["--out", "/proc/of-nobody"], "The folder /proc/of-nobody cannot be made: "),
        (["--kills", "0"], "Invalid value for '--kills'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(sentence)
