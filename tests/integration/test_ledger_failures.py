import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from baozi.errors import ExitCode, LedgerAway
from baozi.ledger import Ledger
from baozi.ledger_url import file_url
from tests.integration.ledgers import baozi, child, children, file_of, record_eaten, rows, said
from tests.requirements import need

if TYPE_CHECKING:
    from side_by_side.postgresql import PostgreSQLServer

pytest_plugins = ["tests.integration.postgresql"]

#: Seconds of patience with another's lock, in the tests that wait for it to end.
PATIENCE = 0.5

FAILING = """
try:
    ledger.open()
    for number in range(100_000):
        eat(number)
except LedgerAway as error:
    print(error)
"""
LIMITED = """
import resource
ledger.open()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    for number in range(100_000):
        eat(number)
except LedgerAway as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
eat(number)
print(number)
"""
FULL = """
from pathlib import Path
ballast = Path(sys.argv[1]) / "ballast"
ballast.write_bytes(bytes(500_000))
ledger.open()
try:
    for number in range(100_000):
        eat(number)
except LedgerAway as error:
    print(error)
ballast.unlink()
assert eat(number), "what failed was not committed"
print(number)
from baozi.audit import audit
print(audit(ledger, "course").total.eaten)
"""


def refusal(ledger: Ledger, secret: str = "") -> str:
    with pytest.raises(LedgerAway) as caught:
        ledger.open()
    sentence = str(caught.value)
    assert caught.value.exit_code is ExitCode.NO_LEDGER
    assert sentence.startswith("The ledger cannot be ")
    assert sentence.endswith(".")
    assert sentence.isprintable(), "one sentence on one line"
    assert not secret or secret not in sentence
    return sentence


def test_a_ledger_that_is_locked_is_an_error_after_its_patience_and_works_again(
    sqlite_url: str,
) -> None:
    ledger = Ledger(sqlite_url, PATIENCE).open()
    holder = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(LedgerAway, match="database is locked"):
            record_eaten(ledger, baozi(), "小红", "here", 2.0)
        assert PATIENCE * 0.8 <= time.monotonic() - began < PATIENCE * 6
        assert rows(ledger) == [], "who reads need not wait"
        holder.execute("COMMIT")
        assert record_eaten(ledger, baozi(), "小红", "here", 2.0)
    finally:
        holder.close()
        ledger.close()


def test_a_locked_ledger_is_waited_for(sqlite_url: str, sqlite_ledger: Ledger) -> None:
    holder = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        waiting = child("print('ready', flush=True); eat(0); print('eaten')", sqlite_url)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(PATIENCE)
        holder.execute("COMMIT")
        assert said(waiting) == "eaten\n"
    finally:
        holder.close()
    assert len(rows(sqlite_ledger)) == 1


def write_lock_of_a_new_file(url: str) -> sqlite3.Connection:
    """Where it is not in WAL mode yet, SQLite's own timeout does not hold: it refuses the mode at once."""
    file_of(url).parent.mkdir()
    holder = sqlite3.connect(file_of(url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    return holder


def test_a_new_ledger_that_another_worker_is_making_is_waited_for(sqlite_url: str) -> None:
    holder = write_lock_of_a_new_file(sqlite_url)
    try:
        program = "print('ready', flush=True); ledger.open(); print('open')"
        with children(program, sqlite_url, 1) as (opening,):
            assert opening.stdout is not None
            assert opening.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                opening.wait(PATIENCE)
            holder.execute("COMMIT")
            assert said(opening) == "open\n"
    finally:
        holder.close()


def test_a_new_ledger_that_stays_locked_is_an_error_after_its_patience(
    sqlite_url: str,
) -> None:
    holder = write_lock_of_a_new_file(sqlite_url)
    ledger = Ledger(sqlite_url, PATIENCE)
    try:
        began = time.monotonic()
        assert refusal(ledger) == "The ledger cannot be used: database is locked."
        assert PATIENCE * 0.8 <= time.monotonic() - began < PATIENCE * 6
    finally:
        holder.close()
        ledger.close()


def test_a_locked_table_of_postgresql_is_an_error_after_its_patience(
    postgresql_url: str,
) -> None:
    ledger, holder = Ledger(postgresql_url, patience=1).open(), Ledger(postgresql_url)
    try:
        with holder.reading() as connection:
            connection.exec_driver_sql("LOCK TABLE eaten IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(LedgerAway, match="timeout"):
                record_eaten(ledger, baozi(), "小红", "here", 2.0)
        assert record_eaten(ledger, baozi(), "小红", "here", 2.0)
    finally:
        holder.close()
        ledger.close()


def test_a_read_only_file_is_an_error_when_the_worker_starts(sqlite_url: str) -> None:
    Ledger(sqlite_url).open().close()
    file_of(sqlite_url).chmod(0o444)
    output = said(child(FAILING, sqlite_url, before=without_root_s_rights()))
    assert output == "The ledger cannot be used: attempt to write a readonly database.\n"


def test_a_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    url = file_url(tmp_path / "closed" / "home" / "ledger.sqlite3").render_as_string()
    output = said(child(FAILING, url, before=without_root_s_rights()))
    assert output == f"The ledger cannot be made at {file_of(url)}: Permission denied.\n"


def without_root_s_rights() -> tuple[str, ...]:
    """What makes root a user like others: a mode without "w" keeps it from writing its own files."""
    if os.geteuid() != 0:
        return ()
    need(shutil.which("setpriv") is not None, "root's rights cannot be given up here without setpriv")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ledger = Ledger(file_url(tmp_path / "file" / "ledger.sqlite3"))
    assert refusal(ledger).startswith(
        f"The ledger cannot be made at {tmp_path / 'file' / 'ledger.sqlite3'}: "
    )
    ledger.close()


def test_a_file_that_is_no_database_is_an_error_and_is_left_as_it_is(tmp_path: Path) -> None:
    letter = b"Dear steamer, this is not a database. " * 100
    (tmp_path / "letter").write_bytes(letter)
    ledger = Ledger(file_url(tmp_path / "letter"))
    assert refusal(ledger) == "The ledger cannot be used: file is not a database."
    with pytest.raises(LedgerAway, match="file is not a database"):
        rows(ledger)
    ledger.close()
    assert (tmp_path / "letter").read_bytes() == letter


def test_a_file_that_reached_its_size_limit_is_an_error_and_can_be_used_without_the_limit(
    sqlite_url: str,
) -> None:
    error, number = said(child(LIMITED, sqlite_url)).splitlines()
    assert error == "The ledger cannot be used: disk I/O error."
    ledger = Ledger(sqlite_url)
    assert [row["number"] for row in rows(ledger)] == list(range(int(number) + 1))
    ledger.close()


def test_a_full_disk_is_an_error_until_there_is_room_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    rights = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size=1m tmpfs "{disk}"'
    tried = subprocess.run(["unshare", *rights, "sh", "-c", mount], capture_output=True, check=False)
    need(tried.returncode == 0, "no small disk can be mounted here")
    before = ("unshare", *rights, "sh", "-c", f'{mount} && exec "$@"', "sh")
    output = said(child(FULL, file_url(disk / "ledger.sqlite3").render_as_string(), str(disk), before=before))
    error, number, count = output.splitlines()
    assert error in {
        "The ledger cannot be used: database or disk is full.",
        "The ledger cannot be used: disk I/O error.",
    }
    assert int(count) == int(number) + 1 > 10


def test_a_postgresql_that_is_away_is_an_error() -> None:
    ledger = Ledger("postgresql://baozi:sekret-of-a-test@127.0.0.1:1/baozi")
    began = time.monotonic()
    assert "Connection refused" in refusal(ledger, secret="sekret-of-a-test")
    assert time.monotonic() - began < 6
    ledger.close()


def test_a_wrong_password_is_an_error_that_does_not_repeat_it(postgresql: "PostgreSQLServer") -> None:
    ledger = Ledger(postgresql.url("postgres", password="sekret-of-a-test"))
    assert "password authentication failed" in refusal(ledger, secret="sekret-of-a-test")
    ledger.close()


def test_a_database_that_is_missing_is_an_error(postgresql: "PostgreSQLServer") -> None:
    ledger = Ledger(postgresql.url("nowhere"))
    assert 'database "nowhere" does not exist' in refusal(ledger, secret=postgresql.password)
    ledger.close()


def test_a_postgresql_that_only_reads_is_an_error_when_the_worker_starts(
    postgresql: "PostgreSQLServer", postgresql_url: str
) -> None:
    Ledger(postgresql_url).open().close()
    # As a standby would be; and so it is seen that options of the URL's own hold.
    reader = Ledger(f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don")
    try:
        assert "read-only transaction" in refusal(reader, secret=postgresql.password)
    finally:
        reader.close()


def test_a_user_without_write_permission_is_an_error_when_the_worker_starts(
    postgresql: "PostgreSQLServer", postgresql_url: str
) -> None:
    made = Ledger(postgresql_url).open()
    with made.reading() as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN PASSWORD 'sekret-of-a-test'")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        connection.commit()
    reader = Ledger(postgresql_url.replace(f"postgres:{postgresql.password}@", "reader:sekret-of-a-test@"))
    try:
        assert "permission denied for table orders" in refusal(reader, secret="sekret-of-a-test")
        assert rows(reader) == [], "an audit may read"
    finally:
        reader.close()
        with made.reading() as connection:
            connection.exec_driver_sql("DROP OWNED BY reader")
            connection.exec_driver_sql("DROP ROLE reader")
            connection.commit()
        made.close()


def test_a_postgresql_that_comes_back_is_used_again(
    postgresql: "PostgreSQLServer", postgresql_url: str
) -> None:
    ledger = Ledger(postgresql_url).open()
    assert record_eaten(ledger, baozi(0), "小红", "here", 2.0)
    with postgresql.stopped():
        for _ in range(2):
            with pytest.raises(LedgerAway) as caught:
                record_eaten(ledger, baozi(1), "小红", "here", 2.0)
            assert str(caught.value).isprintable()
            assert postgresql.password not in str(caught.value)
    assert record_eaten(ledger, baozi(1), "小红", "here", 2.0)
    assert [row["deliveries"] for row in rows(ledger)] == [1, 1]
    ledger.close()
