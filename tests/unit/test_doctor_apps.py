"""How `baozi doctor` finds an app, and what it says of one that it cannot find."""

import subprocess
import sys
from pathlib import Path

import pytest

from baozi.doctor import application
from baozi.doctor.examination import examine
from baozi.errors import AppNotFound, ExitCode, UsageError

ROOT = Path(__file__).parents[2]
APP = "from celery import Celery\napp = Celery('a', broker='redis://:secret@h/0', set_as_current=False)\n"
TASK = "@app.task(name='t', shared=False)\ndef t():\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command runs in. What is imported from it is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    # Apps of this process have their own tasks only: pytest's plug-in for Celery shares some with each.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    for name in [it for it in sys.modules if it.startswith("found_")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize("name", ["found_module", "found_module:app", "found_module:other", "found_package"])
def test_an_app_is_found_as_celery_finds_it(name: str, folder: Path) -> None:
    (folder / "found_module.py").write_text(APP + "other = app\n" + TASK)
    (folder / "found_package").mkdir()
    (folder / "found_package" / "__init__.py").touch()
    (folder / "found_package" / "celery.py").write_text(APP + TASK)
    app = application.load(name)
    assert app.main == "a"
    assert "t" in app.tasks


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (None, "ModuleNotFoundError: No module named 'found_wrong'"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("def (", "SyntaxError: invalid syntax (found_wrong.py, line 1)"),
        ("raise ValueError('at amqp://u:secret/@h//')", "at amqp://u:***@h//."),
        ("raise SystemExit", "SystemExit"),
        ("x = 1", "AttributeError"),
        (f"{APP}app.config_from_object('nothing_here')", "No module named 'nothing_here'"),
    ],
)
def test_an_app_that_does_not_import_is_one_sentence_with_the_error_s_own_words(
    code: str | None, why: str, folder: Path
) -> None:
    if code is not None:
        (folder / "found_wrong.py").write_text(code)
    with pytest.raises(AppNotFound) as caught:
        examine("found_wrong")
    assert str(caught.value).startswith("The app 'found_wrong' cannot be imported: ")
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_an_object_that_is_not_a_celery_app_is_named(folder: Path) -> None:
    (folder / "found_number.py").write_text("app = 1")
    with pytest.raises(AppNotFound, match=r"^The app 'found_number' is not a Celery app, but of type int\.$"):
        examine("found_number")


def test_an_app_that_prints_while_it_is_imported_does_not_spoil_the_result(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "found_loud.py").write_text(f"{APP}print('hello')")
    application.load("found_loud")
    assert capsys.readouterr() == ("", "hello\n")


def test_an_app_on_redis_is_examined_and_its_broker_is_not(folder: Path) -> None:
    (folder / "found_redis.py").write_text(APP + TASK)
    result = examine("found_redis")
    assert [it.rule.id for it in result.findings][:1] == ["BZ101"]
    assert not {"BZ106", "BZ108", "BZ110"} & {it.rule.id for it in result.findings}
    assert "the broker and the rules about RabbitMQ: this app's broker is redis://" in result.unseen


def test_an_app_without_tasks_is_reported(folder: Path) -> None:
    (folder / "found_empty.py").write_text(APP)
    assert "tasks: the app defines none" in examine("found_empty", live=False).unseen


def test_neither_an_app_nor_a_broker_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="Name an app with -A, or a broker with --broker"):
        examine(None)


def test_other_commands_do_not_load_it() -> None:
    program = "import sys; from baozi.commands import app; app(); "
    program += "print({'baozi.audit', 'baozi.doctor'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program, "audit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "{'baozi.audit'}\n"
