from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from baozi.errors import ExitCode, UsageError
from baozi.ledger_url import file_url
from baozi.settings import Settings, settings

#: Stands where a password stands.
SECRET = "sekret" + "-of-a-test"

TOO_SMALL_OR_NONE = [
    ("BROKER_TIMEOUT", "0"),
    ("LEDGER_TIMEOUT", "-1"),
    ("EAT_TIME_LIMIT", "0"),
    ("SOFT_SHUTDOWN_TIMEOUT", "0"),
    ("EAT_SECONDS", "-0.1"),
    ("DELIVERY_LIMIT", "0"),
    ("CAPACITY", "0"),
    ("WINDOW", "0"),
]
TOO_LARGE = [
    ("BROKER_TIMEOUT", "86400.1"),
    ("LEDGER_TIMEOUT", "inf"),
    ("EAT_TIME_LIMIT", "1e999"),
    ("SOFT_SHUTDOWN_TIMEOUT", "86401"),
    ("EAT_SECONDS", "inf"),
    ("DELIVERY_LIMIT", "1000001"),
    ("CAPACITY", "100000001"),
    ("WINDOW", "100001"),
]
NO_NUMBER = [
    ("BROKER_TIMEOUT", "soon"),
    ("LEDGER_TIMEOUT", "nan"),
    ("EAT_TIME_LIMIT", ""),
    ("SOFT_SHUTDOWN_TIMEOUT", "1 s"),
    ("EAT_SECONDS", "nan"),
    ("DELIVERY_LIMIT", "1.5"),
    ("CAPACITY", "many"),
    ("TASK_EVENTS", "perhaps"),
]
AT_THE_EDGE = [
    ("BROKER_TIMEOUT", "86400"),
    ("LEDGER_TIMEOUT", "0.001"),
    ("EAT_SECONDS", "0"),
    ("DELIVERY_LIMIT", "1"),
    ("DELIVERY_LIMIT", "1000000"),
    ("CAPACITY", "1"),
    ("CAPACITY", "100000000"),
]
BAD_LEDGERS = [
    "",
    SECRET,
    f"mysql://u:{SECRET}@db/baozi",
    f"postgresql+asyncpg://u:{SECRET}@db/baozi",
    "sqlite+aiosqlite:///ledger",
    # In memory: each process would have a ledger of its own.
    "memory://",
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite+pysqlite:///:memory:",
    "sqlite:///?cache=shared",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file::memory:?cache=shared&uri=true",
    "sqlite:///file:ledger?mode=memory&uri=true",
    # Options would reach the driver, which knows none of them or works without what the ledger needs.
    "sqlite:///file:ledger?mode=ro&uri=true",
    "sqlite:///ledger?mode=ro",
    "sqlite:////srv/what?",
    "sqlite:////srv/what?/ledger",
    "sqlite:///ledger?timeout=soon",
    "sqlite:///ledger%00",
    # One slash is missing: the folder stands where a host would.
    "sqlite://srv/ledger",
    f"sqlite://u:{SECRET}@srv/ledger",
    f"postgresql://u:{SECRET}%00@db/baozi",
    f"postgresql://u:{SECRET}@db/baozi%00",
    f"postgresql://u:{SECRET}@/baozi?host=a,b&port=1,2,3",
    # The name or the host was forgotten: the password stands where the port should.
    f"postgresql://u:{SECRET}",
    f"postgresql://u@db:{SECRET}/baozi",
]


@pytest.fixture(autouse=True)
def _no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BAOZI_{name.upper()}", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def refusal() -> str:
    with pytest.raises(UsageError) as caught:
        settings()
    assert caught.value.exit_code is ExitCode.USAGE
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "a traceback would show the value"
    return sentence


def test_the_defaults_are_as_documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings()
    assert chosen.home == tmp_path / ".baozi"
    assert (chosen.broker_url, chosen.authkey, chosen.ledger_url, chosen.capacity) == (None, None, None, None)
    assert (chosen.broker_timeout, chosen.ledger_timeout) == (30, 300)
    assert (chosen.eat_seconds, chosen.eat_time_limit) == (0, 1200)
    assert (chosen.delivery_limit, chosen.soft_shutdown_timeout) == (20, 20)
    assert (chosen.runs, chosen.journal) == (tmp_path / ".baozi" / "runs", None)


def test_the_home_folder_is_the_nearest_one_from_the_current_folder_upwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    below = tmp_path / "far" / "below"
    below.mkdir(parents=True)
    (tmp_path / ".baozi").mkdir()
    monkeypatch.chdir(below)
    assert Settings().home == tmp_path / ".baozi"
    assert Settings().home_reason == "the nearest .baozi, from the current folder upwards"
    (tmp_path / "far" / ".baozi").mkdir()
    assert Settings().home == tmp_path / "far" / ".baozi"
    monkeypatch.setenv("BAOZI_HOME", str(tmp_path / "other"))
    assert Settings().home == tmp_path / "other"
    assert Settings().home_reason == "BAOZI_HOME names it"


def test_another_user_s_folder_is_passed_over_above_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".baozi").mkdir()
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    monkeypatch.chdir(below)
    assert Settings().home == below / ".baozi"
    monkeypatch.chdir(tmp_path)
    assert Settings().home == tmp_path / ".baozi"


@pytest.mark.parametrize(
    ("named", "home"), [("", ".local/share/baozi"), ("data", ".local/share/baozi"), ("/srv/data", None)]
)
def test_outside_a_clone_the_home_folder_is_the_user_s_if_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, home: str | None
) -> None:
    monkeypatch.setattr("baozi.settings._runs_in_a_clone", lambda: False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", named)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    assert Settings().home == (tmp_path / home if home else Path("/srv/data/baozi"))
    assert Settings().home_reason.startswith("there is no .baozi in the current folder or above it")
    (project / ".baozi").mkdir()
    assert Settings().home == project / ".baozi"


def test_a_wait_for_the_ledger_ends_before_the_worker_process_is_killed() -> None:
    # And that is before RabbitMQ's consumer timeout of 30 minutes closes the channel.
    assert settings().ledger_timeout < settings().eat_time_limit < 30 * 60


def test_the_default_ledger_is_an_absolute_file_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Absolute: a worker that goes to another folder must not begin a second ledger there.
    monkeypatch.chdir(tmp_path)
    assert settings().ledger == file_url(tmp_path / ".baozi" / "ledger.sqlite3")


def test_a_ledger_url_wins_over_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_HOME", "/elsewhere")
    monkeypatch.setenv("BAOZI_LEDGER_URL", f"postgresql://u:{SECRET}@db/baozi")
    assert settings().ledger == make_url(f"postgresql://u:{SECRET}@db/baozi")
    assert SECRET not in f"{settings().ledger} {settings().ledger!r}"


@pytest.mark.parametrize("url", ["sqlite+pysqlite:///x", "postgresql+psycopg://u@db/x", "postgresql:///x"])
def test_a_driver_that_is_installed_may_be_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_LEDGER_URL", url)
    assert settings().ledger == make_url(url)


@pytest.mark.parametrize(("name", "value"), [*TOO_SMALL_OR_NONE, *TOO_LARGE, *NO_NUMBER])
def test_a_value_out_of_range_is_refused_by_the_variable_s_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BAOZI_{name}", value)
    assert refusal().startswith(f"BAOZI_{name}: ")


@pytest.mark.parametrize(("name", "value"), AT_THE_EDGE)
def test_a_value_at_the_edge_of_its_range_is_taken(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BAOZI_{name}", value)
    assert getattr(settings(), name.lower()) == float(value)


@pytest.mark.parametrize("url", BAD_LEDGERS)
def test_a_bad_ledger_is_refused_and_its_password_is_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAOZI_LEDGER_URL", url)
    sentence = refusal()
    assert sentence.startswith("BAOZI_LEDGER_URL: ")
    assert sentence.isprintable()
    assert SECRET not in sentence


def test_no_secret_is_in_what_settings_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_BROKER_URL", f"amqp://u:{SECRET}@h//")
    monkeypatch.setenv("BAOZI_LEDGER_URL", f"postgresql://u:{SECRET}@h/x")
    monkeypatch.setenv("BAOZI_AUTHKEY", SECRET)
    chosen = settings()
    assert SECRET not in repr(chosen)
    assert SECRET not in str(chosen)
    assert SECRET not in chosen.model_dump_json()
    assert SECRET in chosen.ledger


def test_settings_are_read_once_and_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAOZI_EAT_SECONDS", "2")
    first = settings()
    monkeypatch.setenv("BAOZI_EAT_SECONDS", "3")
    assert settings() is first
    with pytest.raises(ValueError, match="frozen"):
        first.eat_seconds = 4
