"""Versions of the ledger's schema: an old one is noticed and upgraded, a newer one is used if it can be."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, make_url, text, update

from baozi.audit import audit
from baozi.errors import (
    ExitCode,
    LedgerAway,
    NotALedger,
    NothingToAudit,
    SchemaTooNew,
    SchemaTooOld,
)
from baozi.ledger import Ledger
from baozi.ledger_schema import VERSION, VERSION_TABLE, identity, metadata
from baozi.ledger_url import file_url
from baozi.recording import Call, Done
from tests.integration import previous_release
from tests.integration.ledgers import (
    RUN,
    baozi,
    children,
    eat,
    only,
    record_eaten,
    record_redelivery,
    rows,
    said,
)
from tests.integration.place import Place
from tests.integration.test_worker_start import start

pytest_plugins = ["tests.integration.postgresql"]

UPGRADER = """
print("ready", flush=True)
sys.stdin.readline()
ledger.upgrade()
ledger.open()
"""
OLD = f"Ledger schema is version 1, this release needs {VERSION}. Run `baozi ledger upgrade`."


@pytest.fixture
def engine(ledger_url: str, tmp_path: Path) -> Iterator[Engine]:
    """Reads and writes the ledger's database as other programs would."""
    (tmp_path / "home").mkdir(exist_ok=True)
    made = create_engine(make_url(ledger_url).set(drivername=_driver(ledger_url)))
    yield made
    made.dispose()


def _driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


@pytest.fixture
def old(ledger_url: str, engine: Engine) -> Iterator[Ledger]:
    """A ledger that the previous release made, with rows."""
    with engine.connect() as connection:
        previous_release.make(connection)
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


def pretend(engine: Engine, version: int, compatible_from: int) -> None:
    """Make of a ledger one that a later release has upgraded."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_version SET version_num = :number"), {"number": str(version)})
        connection.execute(update(identity).values(compatible_from=compatible_from))


def ledger_command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "baozi", "ledger", *arguments],
        env={**os.environ, "BAOZI_LEDGER_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(ledger: Ledger, engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    assert ledger.version() == VERSION


def test_the_previous_release_s_ledger_is_upgraded_with_all_its_rows(old: Ledger) -> None:
    assert old.version() == 1
    assert old.upgrade() == 1
    assert old.open().version() == VERSION
    assert len(rows(old)) == previous_release.EATEN
    alex, egon = audit(old, RUN).producers
    assert (alex.accepted, alex.eaten, alex.lost, alex.duplicated) == (2, 2, 0, 1)
    assert (egon.accepted, egon.eaten, egon.lost, egon.missing) == (2, 1, 1, [(0, 0)])
    assert record_redelivery(old, baozi(0)) is True
    assert record_eaten(old, baozi(0, "egon"), "小红", "here", 2.0) is True
    assert only_lost(old) == 0


@pytest.mark.parametrize("before", range(2, VERSION))
def test_a_ledger_of_each_earlier_version_is_upgraded_with_all_its_rows(
    ledger_url: str, engine: Engine, before: int
) -> None:
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "baozi:ledger_migrations")
        command.upgrade(config, str(before))
        for number in range(3):
            previous_release.eat(connection, number)
        previous_release.close(connection, 4)
    ledger = Ledger(ledger_url)
    with pytest.raises(SchemaTooOld):
        ledger.open()
    assert ledger.upgrade() == before
    assert ledger.open().version() == VERSION
    assert ledger.queue() is None
    assert [ledger.claim(queue) for queue in ("shop", "lunch")] == ["shop", "shop"]
    earlier, new = (Call("tasks.eat", f"key {number}", baozi(number)) for number in (0, 3))
    with ledger.recording("小红", "here") as recording:
        assert recording.claim([earlier, new]) == [Done(None), None]
        recording.finish([(new, '"eaten"', 2.0)])
    with engine.begin() as connection:
        # A worker that is not updated yet gets both again.
        assert [previous_release.eat(connection, number) for number in (0, 3, 4)] == [False, False, True]
    sums = only(audit(ledger, RUN))
    assert (sums.eaten, sums.lost, sums.duplicated) == (5, 0, 3)
    ledger.close()


def only_lost(ledger: Ledger) -> int:
    return audit(ledger, RUN).total.lost


def test_an_old_ledger_is_one_sentence_for_a_worker_that_starts_and_stays_as_it_is(
    old: Ledger, engine: Engine
) -> None:
    for use in (old.open, old.identity, lambda: audit(old, RUN)):
        with pytest.raises(SchemaTooOld) as caught:
            use()
        assert str(caught.value) == OLD
        assert caught.value.exit_code is ExitCode.NO_LEDGER
    with engine.connect() as connection:
        assert sorted(inspect(connection).get_table_names()) == ["eaten", "orders"]


def test_the_previous_release_s_workers_go_on_with_an_upgraded_ledger(old: Ledger, engine: Engine) -> None:
    old.upgrade()
    with engine.begin() as connection:
        previous_release.open_again(connection)
        assert previous_release.eat(connection, 2) is True
        assert previous_release.eat(connection, 2) is False
        assert previous_release.redeliver(connection, 0) is True
        assert previous_release.redeliver(connection, 9) is False
        previous_release.close(connection, 3)
        previous_release.close(connection, 1)
    alex = next(sums for sums in audit(old, RUN).producers if sums.producer == "alex")
    assert (alex.accepted, alex.eaten, alex.lost, alex.duplicated) == (3, 3, 0, 3)


def test_an_upgrade_that_fails_changes_nothing(old: Ledger, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE ledger_identity (another_program_s INTEGER)"))
    with pytest.raises(LedgerAway):
        old.upgrade()
    with engine.begin() as connection:
        assert not inspect(connection).has_table(VERSION_TABLE)
        connection.execute(text("DROP TABLE ledger_identity"))
    assert old.version() == 1
    assert old.upgrade() == 1
    assert len(rows(old)) == previous_release.EATEN


@pytest.mark.parametrize("there", ["nothing", "old"])
def test_processes_that_upgrade_at_once_all_succeed(
    ledger_url: str, there: str, request: pytest.FixtureRequest
) -> None:
    if there == "old":
        request.getfixturevalue("old")
    with children(UPGRADER, ledger_url, 4) as processes:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            said(process)
    ledger = Ledger(ledger_url)
    assert len(ledger.identity()) == 36
    ledger.close()


def test_a_ledger_of_a_later_release_is_used_if_its_migrations_are_compatible(
    ledger: Ledger, engine: Engine, ledger_url: str
) -> None:
    eat(ledger, 0)
    pretend(engine, VERSION + 5, compatible_from=VERSION)
    again = Ledger(ledger_url).open()
    eat(again, 1)
    assert only(audit(again, RUN)).eaten == 2
    assert again.upgrade() == VERSION + 5, "nothing to do"
    again.close()


def test_a_ledger_of_a_later_release_that_is_not_compatible_is_one_sentence(
    ledger: Ledger, engine: Engine, ledger_url: str
) -> None:
    eat(ledger, 0)
    pretend(engine, VERSION + 5, compatible_from=VERSION + 1)
    again = Ledger(ledger_url)
    for use in (again.open, again.upgrade, again.identity, lambda: audit(again, RUN)):
        with pytest.raises(SchemaTooNew) as caught:
            use()
        assert f"version {VERSION + 5}" in str(caught.value)
        assert str(caught.value).isprintable()
    again.close()


@pytest.mark.parametrize(
    "tables",
    [
        ["CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR)"],
        ["CREATE TABLE eaten (baozi_id VARCHAR PRIMARY KEY, deliveries INTEGER)"],
        ["CREATE TABLE eaten (id INTEGER)", "CREATE TABLE orders (id INTEGER)"],
        ["CREATE TABLE ledger_version (version_num VARCHAR)"],
        [
            "CREATE TABLE ledger_version (version_num VARCHAR)",
            "INSERT INTO ledger_version VALUES ('ae10f00')",
        ],
    ],
)
def test_another_application_s_tables_are_left_alone(
    engine: Engine, ledger_url: str, tables: list[str]
) -> None:
    with engine.begin() as connection:
        for statement in tables:
            connection.execute(text(statement))
        before = sorted(inspect(connection).get_table_names())
    ledger = Ledger(ledger_url)
    for use in (ledger.open, ledger.upgrade, ledger.version, ledger.identity):
        with pytest.raises(NotALedger):
            use()
    ledger.close()
    with engine.connect() as connection:
        assert sorted(inspect(connection).get_table_names()) == before


def test_each_ledger_has_its_own_permanent_id(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    mine = ledger.identity()
    again = Ledger(ledger_url).open()
    assert again.upgrade() == VERSION
    assert again.identity() == mine
    again.close()
    other = Ledger(file_url(tmp_path / "another.sqlite3")).open()
    assert other.identity() != mine
    other.close()


def test_the_commands_say_the_version_and_upgrade(old: Ledger, ledger_url: str) -> None:
    assert old.version() == 1
    said_first = ledger_command(ledger_url, "version")
    assert (said_first.returncode, said_first.stderr) == (0, "")
    assert said_first.stdout == f"Ledger schema is version 1, this release needs {VERSION}.\n"
    assert json.loads(ledger_command(ledger_url, "version", "--json").stdout) == {
        "version": 1,
        "needed": VERSION,
        "id": None,
        "queue": None,
    }
    assert (
        ledger_command(ledger_url, "upgrade").stdout
        == f"Upgraded the ledger from schema version 1 to {VERSION}.\n"
    )
    assert ledger_command(ledger_url, "upgrade").stdout == f"Ledger schema is version {VERSION} already.\n"
    again = json.loads(ledger_command(ledger_url, "upgrade", "--json").stdout)
    assert again == {"before": VERSION, "version": VERSION}
    said = json.loads(ledger_command(ledger_url, "version", "--json").stdout)
    assert (said["version"], said["id"]) == (VERSION, old.identity())


def test_the_commands_on_no_ledger(ledger_url: str) -> None:
    none = ledger_command(ledger_url, "version")
    assert (none.returncode, none.stdout) == (ExitCode.NO_LEDGER, "")
    assert len(none.stderr.splitlines()) == 1
    made = json.loads(ledger_command(ledger_url, "upgrade", "--json").stdout)
    assert made == {"before": None, "version": VERSION}
    ledger = Ledger(ledger_url)
    with pytest.raises(NothingToAudit, match="has nothing of run"):
        audit(ledger, RUN)
    ledger.close()


def test_a_worker_that_meets_an_older_schema_exits_with_one_sentence(private_place: Place) -> None:
    engine = create_engine(private_place.ledger_url)
    with engine.connect() as connection:
        previous_release.make(connection)
    engine.dispose()
    done = start(private_place)
    assert (done.returncode, done.stderr.splitlines()) == (ExitCode.NO_LEDGER, [OLD])
    assert private_place.run("ledger", "upgrade").returncode == 0
    private_place.worker("小明")
    private_place.produce("r", "alex", 3)
    done_audit = private_place.run("audit", "r", "--wait", "30")
    assert done_audit.returncode == 0, done_audit.stderr


def test_the_audit_of_an_older_schema_is_one_sentence(old: Ledger, ledger_url: str) -> None:
    assert isinstance(old, Ledger)
    done = subprocess.run(
        [sys.executable, "-m", "baozi", "audit", RUN],
        env={**os.environ, "BAOZI_LEDGER_URL": ledger_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()) == (ExitCode.NO_LEDGER, [OLD])
