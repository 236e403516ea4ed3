"""`baozi prove --danger` without processes: the demonstrations, the doctor in their apps, and the report."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from baozi.doctor import application
from baozi.doctor.examination import findings
from baozi.doctor.facts import Facts
from baozi.doctor.rules import RULES
from baozi.errors import ExitCode, UsageError
from baozi.prove.command import prove
from baozi.prove.dangers import command, report
from baozi.prove.dangers.app import APP, write_app
from baozi.prove.dangers.catalogue import CITED, chosen
from baozi.prove.dangers.demonstration import DANGERS, DEMONSTRATIONS, Demonstration
from baozi.prove.dangers.showing import Shown

DOCS = Path(__file__).parents[2] / "docs"
ALL = list(DEMONSTRATIONS.values())


def test_each_danger_is_demonstrated_or_cited_with_a_reason() -> None:
    assert DEMONSTRATIONS.keys() | CITED.keys() == {it.id for it in RULES}
    assert not DEMONSTRATIONS.keys() & CITED.keys()
    # Three more are tried, and no longer happen with Celery 5.7.
    assert sum(not it.gone for it in ALL) >= 25
    assert all(CITED.values())


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forgets the modules and the current app at the end."""
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    monkeypatch.setattr("celery._state.default_app", None)
    monkeypatch.setattr("celery._state._tls", type("_TLS", (), {"current_app": None})())
    monkeypatch.setattr("baozi.reliable._guarded", {})
    monkeypatch.setenv("SHOP_BROKER", "amqp://localhost//")
    yield monkeypatch
    for name in (APP, "celeryconfig", "sound"):
        sys.modules.pop(name, None)


def found(folder: Path, modules: pytest.MonkeyPatch, lines: str, tasks: str) -> set[str]:
    """The ids of what the doctor finds in the app, without a look at a broker."""
    modules.syspath_prepend(str(write_app(folder, lines, tasks)))
    app = application.load(APP)
    return {it.rule.id for it in findings(Facts(app=application.read(app, APP), celery="5.7.0"))}


@pytest.mark.parametrize("one", ALL, ids=[it.rule for it in ALL])
def test_the_doctor_finds_the_danger_in_the_app_and_nothing_else(
    one: Demonstration, tmp_path: Path, modules: pytest.MonkeyPatch
) -> None:
    assert found(tmp_path / "app", modules, one.danger, one.tasks) == set(one.finds)


@pytest.mark.parametrize("one", ALL, ids=[it.rule for it in ALL])
def test_the_doctor_finds_it_no_more_in_the_app_with_the_fix(
    one: Demonstration, tmp_path: Path, modules: pytest.MonkeyPatch
) -> None:
    assert found(tmp_path / "app", modules, one.fix, one.fixed_tasks) == set(one.leaves)
    assert one.rule not in one.leaves


@pytest.mark.parametrize("one", ALL, ids=[it.rule for it in ALL])
def test_a_demonstration_says_what_it_does_and_differs_from_its_fix(one: Demonstration) -> None:
    assert one.does.endswith(".")
    assert one.gone or (one.danger, one.tasks, "") != (one.fix, one.fixed_tasks, one.instead)
    # It is a part of some, or has a number that is no danger.
    assert one.of is None or one.most < one.of


# The command.


def shown(rule: str = "BZ104", danger: int | None = 5, fix: int | None = 0, **more: Any) -> Shown:
    return Shown(rule, more.pop("rabbitmq", "4.3.6"), danger, fix, **more)


def test_a_danger_is_shown_only_if_it_was_seen_and_was_not_seen_with_the_fix() -> None:
    assert shown().complete
    assert not shown(danger=0).complete
    assert not shown(fix=1).complete
    assert not shown(danger=None, fix=None, problem="No.").complete
    # Celery 5.7 no longer has this one.
    assert shown("BZ118", danger=0, fix=None).complete
    assert not shown("BZ118", danger=1, fix=None).complete
    # Three executions of a message with a delivery limit of 2 are no danger.
    assert shown("BZ103", danger=4, fix=3).complete
    assert not shown("BZ103", danger=3, fix=3).complete


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"danger": "BZ999"}, "There is no danger 'BZ999'"),
        ({"danger": "BZ104,"}, "There is no danger ''"),
        ({"danger": "BZ202"}, "BZ202 is not demonstrated: it needs a machine whose clock is wrong"),
        ({"danger": "BZ104", "app": "shop"}, "--danger starts its own apps and broker"),
        ({"danger": "BZ104", "on": "cluster"}, "There is no broker 'cluster'"),
    ],
)
def test_wrong_usage_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as raised:
        prove(**options)
    assert "\n" not in str(raised.value)


def test_all_means_each_demonstration_in_the_order_of_the_rules() -> None:
    assert [it.rule for it in chosen(["all"])] == sorted(DEMONSTRATIONS)


def test_help_lists_each_danger_and_how_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    prove(danger="help")
    said = capsys.readouterr().out
    assert [it for it in DANGERS if f"{it} {DANGERS[it].severity.word}: " not in said] == []
    assert "only cited: it needs a machine whose clock is wrong." in said


def test_the_result_is_printed_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "show", lambda *_: (it for it in [shown()]))
    command.run("BZ104", 1, None, tmp_path, tmp_path, as_json=False)
    assert "task_acks_on_failure = False" in capsys.readouterr().out
    assert report.recorded([tmp_path / "results.json"]) == [shown()]


def test_the_exit_code_says_that_a_try_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "show", lambda *_: (it for it in [shown(), shown(danger=0)]))
    with pytest.raises(typer.Exit) as end:
        command.run("BZ104", 2, None, tmp_path, None, as_json=True)
    assert end.value.exit_code == ExitCode.NOT_SHOWN


def test_the_numbers_of_several_tries_are_a_range() -> None:
    said = "\n".join(report.lines([shown(danger=3), shown()]))
    assert "3 to 5 of 5 calls lost" in said
    assert "Shown, and fixed, in 2 of 2 tries on RabbitMQ 4.3.6." in said


def test_a_demonstration_that_could_not_be_made_says_why() -> None:
    said = "\n".join(report.lines([shown(danger=None, fix=None, problem="No container.")]))
    assert "Shown, and fixed, in 0 of 1 tries on RabbitMQ 4.3.6. No container." in said


# The page.


def test_the_page_has_what_was_recorded_of_each_danger() -> None:
    page = (DOCS / "dangers.md").read_text(encoding="utf-8").splitlines()
    tries = report.recorded(sorted((DOCS / "dangers").glob("*.json")))
    assert [line for line in page if line.startswith("| BZ")] == report.rows(tries)[2:]
    assert report.summary(tries) in page


def test_each_demonstration_is_recorded_three_times_and_was_complete_on_one_version() -> None:
    tries = report.recorded([DOCS / "dangers" / "results.json"])
    assert {rule: sum(it.rule == rule for it in tries) for rule in DEMONSTRATIONS} == dict.fromkeys(
        DEMONSTRATIONS, 3
    )
    assert [it for it in tries if not it.complete] == []


def test_the_rules_of_the_table_are_those_of_the_doctor() -> None:
    rows = report.rows(report.recorded([DOCS / "dangers" / "results.json"]))[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [it.id for it in RULES]
