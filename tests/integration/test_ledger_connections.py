"""A ledger's database that hangs, a pooler before it, and a server that would not wait for its disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import make_url

from baozi.errors import ExitCode, LedgerAway
from baozi.faults.proxy import NetworkCondition, Proxy
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from baozi.recording import Call, Done
from tests.integration.ledgers import (
    RUN,
    baozi,
    child,
    close,
    eat,
    record_eaten,
    record_eaten_many,
    rows,
    said,
)
from tests.integration.pgbouncer import pooler
from tests.integration.place import Place
from tests.waiting import wait_until

if TYPE_CHECKING:
    from side_by_side.postgresql import PostgreSQLServer

pytest_plugins = ["tests.integration.postgresql"]

#: Seconds of a ledger's patience here, and within which it must have said that its server hangs.
PATIENCE, SOON = 1.0, 10
#: Seconds within which a command whose server hangs must have ended, Python's own start included.
ENDED = 12

POOLED = """
ledger.open()
for number in range(100):
    assert eat(number, sys.argv[1])
    assert not eat(number, sys.argv[1])
"""


@pytest.fixture
def proxy(postgresql: "PostgreSQLServer") -> Iterator[Proxy]:
    made = Proxy(lambda: ("127.0.0.1", postgresql.port))
    yield made
    made.close()


@pytest.fixture
def proxied_url(proxy: Proxy, postgresql_url: str) -> str:
    return make_url(postgresql_url).set(port=proxy.port).render_as_string(hide_password=False)


def soon_away(ledger: Ledger) -> None:
    began = time.monotonic()
    with pytest.raises(LedgerAway) as caught:
        record_eaten(ledger, baozi(1), "小红", "here", 2.0)
    assert time.monotonic() - began < SOON
    assert str(caught.value).isprintable()


def test_a_soft_time_limit_within_a_statement_costs_only_the_one_execution(postgresql_url: str) -> None:
    def limit(_number: int, _frame: object) -> None:
        raise SoftTimeLimitExceeded

    calls = [Call("tasks.eat", f"key {number}", baozi(number)) for number in range(3)]
    ledger = Ledger(postgresql_url).open()
    before = signal.signal(signal.SIGUSR1, limit)
    try:
        with ledger.recording("小红", "here") as recording:
            recording.claim(calls)
            for call in calls:
                with suppress(SoftTimeLimitExceeded), recording.savepoint(call):
                    if call is calls[1]:
                        Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                        recording.connection.exec_driver_sql("SELECT pg_sleep(60)")
                    recording.finish([(call, '"eaten"', 2.0)])
        with ledger.recording("小红", "here") as recording:
            assert recording.claim(calls) == [Done('"eaten"'), None, Done('"eaten"')]
    finally:
        signal.signal(signal.SIGUSR1, before)
        ledger.close()


@pytest.mark.parametrize("connected", [True, False])
def test_a_postgresql_that_hangs_is_an_error_soon_and_is_used_again(
    postgresql: "PostgreSQLServer", postgresql_url: str, connected: bool
) -> None:
    Ledger(postgresql_url).open().close()
    with closing(Ledger(postgresql_url, PATIENCE)) as ledger:
        if connected:
            record_eaten(ledger, baozi(0), "小红", "here", 2.0)
        with postgresql.frozen():
            soon_away(ledger)
            soon_away(ledger)
        record_eaten(ledger, baozi(1), "小红", "here", 2.0)
        assert {row["number"] for row in rows(ledger)} == ({0, 1} if connected else {1})


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("lost", ["up", "down", "both"])
def test_a_network_that_swallows_everything_is_an_error_soon(
    proxy: Proxy, proxied_url: str, connected: bool, lost: str
) -> None:
    with closing(Ledger(proxied_url, PATIENCE)) as ledger:
        ledger.open()
        if not connected:
            ledger.close()
        proxy.set_condition(NetworkCondition(up=lost == "down", down=lost == "up"))
        soon_away(ledger)
        proxy.set_condition(NetworkCondition())
        record_eaten(ledger, baozi(1), "小红", "here", 2.0)
        (row,) = rows(ledger)
        assert row["number"] == 1


@pytest.mark.parametrize("frozen_first", [True, False])
def test_an_audit_that_waits_for_a_server_that_hangs_ends_by_its_deadline(
    postgresql: "PostgreSQLServer", postgresql_url: str, frozen_first: bool
) -> None:
    with closing(Ledger(postgresql_url).open()) as ledger:
        eat(ledger, 0)
        close(ledger, 2)
    command = [sys.executable, "-m", "baozi", "audit", RUN, "--wait", "3"]
    environment = {**os.environ, "BAOZI_LEDGER_URL": postgresql_url}
    if frozen_first:
        with postgresql.frozen():
            audit = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            complaint = audit.communicate(timeout=ENDED)[1]
    else:
        audit = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

        def has_looked() -> bool:
            with postgresql.connection() as connection:
                looks = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' OR query = 'ROLLBACK'"
                return connection.execute(looks.encode()).fetchone() != (0,)

        wait_until(has_looked, "the audit to look", timeout=30)
        with postgresql.frozen():
            complaint = audit.communicate(timeout=ENDED)[1]
    assert (audit.returncode, len(complaint.splitlines())) == (ExitCode.NO_LEDGER, 1), complaint
    assert complaint.startswith("The ledger cannot be used: ")


def test_a_worker_whose_ledger_hangs_logs_it_and_returns_its_baozi(
    private_place: Place, postgresql: "PostgreSQLServer", postgresql_url: str
) -> None:
    worker = private_place.worker("小明", ledger_url=postgresql_url, ledger_timeout=5, tray=1)
    with postgresql.frozen():
        private_place.produce("r", "alex", 1, ledger_url=postgresql_url)
        wait_until(
            lambda: "The ledger cannot be used" in worker.log.read_text(), "the worker to say so", timeout=15
        )
        wait_until(lambda: "back to the queue" in worker.log.read_text(), "it to give up", timeout=30)
    audit = ["audit", "r", "--wait", "60"]
    assert private_place.run(*audit, ledger_url=postgresql_url).returncode == 0


def test_a_worker_stops_on_a_signal_while_its_ledger_hangs(
    private_place: Place, postgresql: "PostgreSQLServer", postgresql_url: str
) -> None:
    worker = private_place.worker("小明", ledger_url=postgresql_url, soft_shutdown_timeout=2)
    with postgresql.frozen():
        private_place.produce("r", "alex", 1, ledger_url=postgresql_url)
        wait_until(
            lambda: "The ledger cannot be used" in worker.log.read_text(), "the worker to say so", timeout=15
        )
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(timeout=30)


def test_through_pgbouncer_in_transaction_mode_all_is_as_without(postgresql_url: str) -> None:
    with pooler(postgresql_url, connections=2) as through:
        writers = [child(POOLED, through, f"producer {number}") for number in range(4)]
        for writer in writers:
            said(writer)
        with closing(Ledger(through, patience=1)) as ledger, closing(Ledger(through)) as holder:
            assert len(rows(ledger)) == 400
            assert record_eaten_many(ledger, [baozi(0), baozi(1)], "小红", "here", 2.0) == [
                baozi(0),
                baozi(1),
            ]
            assert ledger.upgrade() == ledger.version()
            with holder.reading() as connection:
                connection.exec_driver_sql("LOCK TABLE eaten IN ACCESS EXCLUSIVE MODE")
                with pytest.raises(LedgerAway, match="timeout"):
                    record_eaten(ledger, baozi(5), "小红", "here", 2.0)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("configured", "used"),
    [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)
def test_a_commit_is_on_the_disk_whatever_the_server_s_configuration(
    postgresql: "PostgreSQLServer", postgresql_url: str, configured: str, used: str, pooled: bool
) -> None:
    name = make_url(postgresql_url).database
    with postgresql.connection() as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {configured}".encode())
        connection.execute(f"ALTER DATABASE {name} SET statement_timeout = 0".encode())
    if pooled:
        with pooler(postgresql_url, connections=1) as through:
            settings_in_a_transaction(through, used)
    else:
        settings_in_a_transaction(postgresql_url, used)


def settings_in_a_transaction(url: str, synchronous_commit: str) -> None:
    with closing(Ledger(url, patience=3).open()) as ledger, ledger._writing() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("synchronous_commit", "statement_timeout", "lock_timeout", "transaction_isolation")
        }
    assert shown == {
        "synchronous_commit": synchronous_commit,
        "statement_timeout": "3s",
        "lock_timeout": "3s",
        "transaction_isolation": "read committed",
    }


def test_an_audit_reads_one_snapshot(postgresql_url: str) -> None:
    with closing(Ledger(postgresql_url).open()) as ledger, closing(Ledger(postgresql_url)) as writer:
        eat(ledger, 0)
        with ledger.reading() as connection:
            count = "SELECT count(*) FROM eaten"
            assert connection.exec_driver_sql(count).scalar_one() == 1
            eat(writer, 1)
            assert connection.exec_driver_sql(count).scalar_one() == 1


@pytest.mark.parametrize(
    "name",
    [
        "what?",
        "what?a",
        "what?b",
        "100%",
        "a%20b",
        "a b",
        "#1",
        "a;b",
        "a:b",
        "@",
        "包子",
        "file:",
        "~",
        "[x]",
    ],
)
def test_a_home_whatever_its_name_has_its_own_ledger(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    program = "ledger.open(); eat(0); print(ledger.identity())"
    environment = {**os.environ, "BAOZI_HOME": str(home)}
    environment.pop("BAOZI_LEDGER_URL", None)
    ids = set()
    for folder in (home, tmp_path / (name + "?"), tmp_path / "what"):
        with closing(Ledger(file_url(folder / "ledger.sqlite3")).open()) as ledger:
            ids.add(ledger.identity())
            assert (folder / "ledger.sqlite3").is_file()
    assert len(ids) == 3
    from_settings = subprocess.run(
        [sys.executable, "-m", "baozi", "ledger", "version"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert from_settings.returncode == 0, from_settings.stderr
    with_url = child(program, file_url(home / "ledger.sqlite3").render_as_string())
    assert said(with_url).strip() in ids
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({name, name + "?", "what"})
