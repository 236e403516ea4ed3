"""`baozi runs`, and the oldest open order of `baozi status`."""

import json
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from baozi.commands import app_with
from baozi.journal import Event, Journal, OrderEvent
from baozi.ledger import Ledger
from baozi.model import Baozi, Closing, Opening
from baozi.runs import State, names, runs
from baozi.settings import settings
from baozi.status import oldest_open_order
from tests.integration.ledgers import record_eaten

pytest_plugins = ["tests.integration.postgresql"]

ORDER = "0" * 32


def eat(ledger: Ledger, run: str, *numbers: int, made_at: float = 1.0) -> None:
    for number in numbers:
        one = Baozi(run=run, producer="alex", number=number, made_at=made_at)
        record_eaten(ledger, one, "小红", "here", 100.0 + number)


def close(ledger: Ledger, run: str, accepted: int) -> None:
    ledger.record_order(
        Closing(run=run, producer="alex", accepted=accepted, attempted=accepted, closed_at=50.0)
    )


def journal(folder: Path, run: str, *numbers: int) -> Path:
    path = folder / run / "alex.journal"
    with Journal(path) as written:
        written.write(OrderEvent.OPENED, f"{run}/alex/{ORDER}/1")
        written.write(Event.ACCEPTED, *(f"{run}/alex/{number}" for number in numbers))
    return path


def test_each_run_is_listed_with_its_sums_its_sizes_and_how_it_stands(ledger: Ledger, tmp_path: Path) -> None:
    eat(ledger, "sound", 0, 1)
    close(ledger, "sound", 2)
    eat(ledger, "lost", 0)
    close(ledger, "lost", 3)
    eat(ledger, "open", 0)
    path = journal(tmp_path, "journal only", 0, 1)
    listed = {one.run: one for one in runs(ledger, tmp_path)}
    assert list(listed) == ["journal only", "lost", "open", "sound"]
    assert {name: one.state for name, one in listed.items()} == {
        "journal only": State.OPEN,
        "lost": State.LOST,
        "open": State.OPEN,
        "sound": State.SOUND,
    }
    sound, lost = listed["sound"], listed["lost"]
    assert (sound.accepted, sound.eaten, sound.rows, sound.last_at) == (2, 2, 3, 101.0)
    assert (lost.accepted, lost.eaten, lost.lost, sound.problems) == (3, 1, 2, [])
    assert listed["open"].accepted is None
    assert listed["journal only"].journal_bytes == path.stat().st_size
    assert listed["journal only"].lost == 2


def test_without_a_ledger_the_journals_are_listed_and_no_ledger_is_made(tmp_path: Path) -> None:
    ledger = Ledger(make_url(f"sqlite:///{tmp_path}/none.sqlite3"))
    assert names(ledger, tmp_path / "runs") == []
    journal(tmp_path / "runs", "r", 0)
    assert [one.run for one in runs(ledger, tmp_path / "runs")] == ["r"]
    assert not (tmp_path / "none.sqlite3").exists()


def test_the_command_prints_a_table_and_a_line_of_json_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAOZI_HOME", str(tmp_path))
    monkeypatch.delenv("BAOZI_LEDGER_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    settings.cache_clear()
    none = CliRunner().invoke(app_with(["runs"]), ["runs"])
    assert none.stdout == f"No run is known. BAOZI_HOME is {tmp_path} (BAOZI_HOME names it).\n"
    ledger = Ledger(settings().ledger).open()
    eat(ledger, "lunch", 0)
    close(ledger, "lunch", 1)
    ledger.close()
    narrow = CliRunner().invoke(app_with(["runs"]), ["runs"]).stdout.split()
    assert narrow[:9] == ["lunch", "state", "sound", "accepted", "1", "eaten", "1", "lost", "0"]
    monkeypatch.setenv("COLUMNS", "80")
    header, _, row = [
        line for line in CliRunner().invoke(app_with(["runs"]), ["runs"]).stdout.splitlines() if line.strip()
    ]
    assert header.split()[:4] == ["run", "state", "accepted", "eaten"]
    assert row.split()[:6] == ["lunch", "sound", "1", "1", "0", "0"]
    (line,) = CliRunner().invoke(app_with(["runs"]), ["runs", "--json"]).stdout.splitlines()
    told = json.loads(line)
    assert (told["run"], told["state"], told["accepted"], told["eaten"]) == ("lunch", "sound", 1, 1)
    settings.cache_clear()


def test_the_oldest_open_order_is_the_first_order_that_is_not_closed(ledger: Ledger) -> None:
    def oldest() -> tuple[str, int] | None:
        with ledger.reading() as connection:
            found = oldest_open_order(connection)
        return None if found is None else (found["run"], found["age_seconds"] // 100)

    now = time.time()
    close(ledger, "closed", 1)
    eat(ledger, "closed", 0, made_at=now - 5000)
    assert oldest() is None
    # A first session is opened by its first baozi, a later one by a message.
    eat(ledger, "first", 0, 1, made_at=now - 1050)
    ledger.record_opening(Opening(run="again", producer="alex", order=ORDER, session=2, opened_at=now - 2050))
    assert oldest() == ("again", 20)
    ledger.record_order(
        Closing(run="again", producer="alex", accepted=0, attempted=0, closed_at=now, order=ORDER, session=2)
    )
    assert oldest() == ("first", 10)
