"""`baozi prove` without processes: the plan, the records, the verdicts, the advice and the report."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from baozi import language
from baozi.doctor.rules import RULES, Rule
from baozi.errors import UsageError
from baozi.prove import plan, plugin, report
from baozi.prove.advice import change_of, use_broker, write_over
from baozi.prove.command import prove as prove_command
from baozi.prove.faults import FAULTS
from baozi.prove.judging import Judgement, LastSeen, TrialResult, judge, last_seen
from baozi.prove.plugin import Change
from baozi.prove.proof import Proof, limited
from baozi.prove.records import CallHistory, TrialRecords
from baozi.prove.report import ProofReport
from baozi.prove.survey import Question, look

RULE = {rule.id: rule for rule in RULES}
#: What the doctor finds in an app without any settings.
FOUND = ("BZ101", "BZ106", "BZ110", "BZ125")


def first(seed: int, count: int = 30) -> list[plan.PlannedStep]:
    return list(itertools.islice(plan.steps(plan.DEFAULT, seed), count))


# The plan.


def test_the_same_seed_gives_the_same_plan_and_another_seed_another_plan() -> None:
    assert first(7) == first(7)
    assert first(7) != first(8)


def test_a_round_has_each_fault_and_a_delayed_and_a_retried_call() -> None:
    round_ = first(1, len(plan.DEFAULT))
    assert {it.fault for it in round_} == set(FAULTS)
    assert {it.name for it in round_} >= {"kill-worker:eta", "kill-worker:retry"}


@pytest.mark.parametrize("name", ["kill-everything", "kill-worker:never", ""])
def test_an_unknown_fault_or_way_of_calls_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        plan.parsed([name])


def test_a_number_of_rounds_limits_the_plan_and_so_do_seconds() -> None:
    assert len(list(limited(plan.steps(["cut"], 1), 1, 3, None))) == 3
    assert len(list(limited(plan.steps(["cut"], 1), 1, None, None))) == 1
    assert list(limited(plan.steps(["cut"], 1), 1, None, -1)) == []


# The records.


def written(folder: Path, name: str, *events: dict[str, Any], torn: str = "") -> TrialRecords:
    lines = [json.dumps({"at": number, "id": "", "pid": 1, **it}) for number, it in enumerate(events)]
    (folder / name).write_text("\n".join(lines) + "\n" + torn)
    records = TrialRecords(folder)
    records.refresh()
    return records


def test_a_call_is_followed_over_the_files_of_all_processes(tmp_path: Path) -> None:
    written(tmp_path, "worker.jsonl", {"event": "started", "id": "a"}, {"event": "succeeded", "id": "a"})
    records = written(
        tmp_path,
        "producer.jsonl",
        {"event": "attempted", "id": "a", "number": 0},
        {"event": "accepted", "id": "a"},
    )
    call = records.calls["a"]
    assert (call.accepted, call.started, call.succeeded) == (True, 1, 1)


def test_a_worker_that_is_recorded_before_its_producer_is_counted(tmp_path: Path) -> None:
    records = written(tmp_path, "worker.jsonl", {"event": "started", "id": "a"})
    assert not records.calls
    (tmp_path / "producer.jsonl").write_text(
        json.dumps({"at": 9, "event": "attempted", "id": "a", "number": 0, "pid": 2}) + "\n"
    )
    records.refresh()
    assert records.calls["a"].started == 1


def test_a_line_that_is_being_written_is_read_when_it_is_complete(tmp_path: Path) -> None:
    records = written(
        tmp_path, "p.jsonl", {"event": "attempted", "id": "a", "number": 0}, torn='{"at": 5, "ev'
    )
    assert not records.calls["a"].accepted
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write('ent": "accepted", "id": "a", "pid": 1}\n')
    records.refresh()
    assert records.calls["a"].accepted


def test_a_killed_process_is_no_failure_of_the_task(tmp_path: Path) -> None:
    records = written(
        tmp_path,
        "p.jsonl",
        {"event": "attempted", "id": "a", "number": 0},
        {"event": "failed", "id": "a", "error": "WorkerLostError", "why": ""},
        {"event": "attempted", "id": "b", "number": 1},
        {"event": "failed", "id": "b", "error": "ValueError", "why": "no"},
    )
    assert not records.calls["a"].ended
    assert records.calls["b"].failed == "ValueError: no"


# The verdicts.


def call(task_id: str = "a", **facts: Any) -> CallHistory:
    return CallHistory(task_id, **{"accepted": True, **facts})


def judged(*calls: CallHistory, queued: dict[str, bool] | None = None, **facts: Any) -> TrialResult:
    return judge(TrialResult("kill-worker", **facts), calls, queued or {}, FOUND)


def test_an_app_that_does_each_accepted_call_once_is_sound() -> None:
    result = judged(call(started=1, succeeded=1))
    assert (result.judgement, result.explained_by) == (Judgement.SOUND, [])


def test_a_call_that_is_started_again_after_a_kill_and_succeeds_once_is_sound() -> None:
    result = judged(call(started=2, succeeded=1))
    assert (result.judgement, result.started_again) == (Judgement.SOUND, 1)


def test_a_call_that_succeeds_twice_is_a_repetition() -> None:
    assert judged(call(started=2, succeeded=2)).judgement is Judgement.REPEATS


def test_a_call_that_was_accepted_and_is_nowhere_is_lost_and_explained() -> None:
    result = judged(call("a", received=1, started=1), call("b"))
    assert (result.judgement, result.lost) == (Judgement.LOSES, 2)
    assert result.explained_by == ["BZ101", "BZ106", "BZ110"]


def test_a_call_of_which_apply_async_reported_an_error_is_not_lost() -> None:
    result = judged(call(accepted=False, refused="OperationalError: gone"), call("b", accepted=False))
    assert (result.judgement, result.refused, result.unknown) == (Judgement.SOUND, 1, 1)


def test_a_call_that_failed_by_itself_is_not_lost() -> None:
    result = judged(call(started=1, failed="ValueError: no"))
    assert (result.judgement, result.failed) == (Judgement.SOUND, 1)


def test_a_call_that_stays_in_the_workers_queue_means_that_work_stops() -> None:
    result = judged(call("a"), queued={"a": True})
    assert (result.judgement, result.waiting, result.explained_by) == (Judgement.STOPS, 1, ["BZ125"])


def test_a_call_among_the_dead_letters_is_neither_lost_nor_waiting() -> None:
    result = judged(call("a", started=1), queued={"a": False})
    assert (result.judgement, result.dead, result.waiting) == (Judgement.SOUND, 1, 0)


def test_a_loss_is_worse_than_a_stop_and_a_stop_than_a_repetition() -> None:
    assert judged(call("a"), call("b", succeeded=2), stopped="hangs").judgement is Judgement.LOSES
    assert judged(call("b", succeeded=2), stopped="hangs").judgement is Judgement.STOPS


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({}, LastSeen.ACCEPTED),
        ({"received": 1}, LastSeen.RECEIVED),
        ({"received": 1, "started": 1}, LastSeen.STARTED),
        ({"received": 1, "started": 1, "retried": 1}, LastSeen.RETRIED),
        ({"received": 2, "started": 2, "retried": 1}, LastSeen.STARTED),
    ],
)
def test_where_a_lost_call_was_last_seen_depends_on_its_last_event(
    facts: dict[str, Any], place: LastSeen
) -> None:
    assert last_seen(call(**facts)) is place


# The advice.


def test_a_rules_lines_become_settings_queue_arguments_and_variables() -> None:
    assert change_of(RULE["BZ102"]) == Change({"task_reject_on_worker_lost": True})
    assert change_of(RULE["BZ115"]) == Change(queue_arguments={"x-overflow": "reject-publish"})
    assert change_of(RULE["BZ131"]) == Change(
        {"worker_soft_shutdown_timeout": 20}, environment={"REMAP_SIGTERM": "SIGQUIT"}
    )


@pytest.mark.parametrize(
    "rule", [RULE[it] for it in ("BZ118", "BZ133", "BZ135", "BZ136")], ids=lambda it: it.id
)
def test_advice_that_only_a_person_can_follow_changes_nothing(rule: Rule) -> None:
    assert change_of(rule) is None


def test_changes_are_merged_name_by_name() -> None:
    one = Change({"broker_transport_options": {"confirm_publish": True}, "a": 1})
    both = one.and_also(Change({"broker_transport_options": {"read_timeout": 5}, "a": 2}))
    assert both.settings == {
        "broker_transport_options": {"confirm_publish": True, "read_timeout": 5},
        "a": 2,
    }


def test_settings_are_written_over_tasks_and_queues_that_have_read_them() -> None:
    app: Any = Celery("written_over", broker="amqp://here//", set_as_current=False)

    def one() -> None: ...

    task = app.task(name="one", shared=False)(one)
    app.finalize()
    assert not task.acks_late
    assert app.amqp.queues["celery"].queue_arguments is None
    write_over(
        app,
        Change(
            {"task_acks_late": True, "task_annotations": {"*": {"mandatory": True}}}, {"x-delivery-limit": 3}
        ),
    )
    assert app.tasks["one"].acks_late
    assert app.tasks["one"]._get_exec_options()["mandatory"]
    assert app.amqp.queues["celery"].queue_arguments == {"x-delivery-limit": 3}


def test_an_app_that_would_use_another_broker_is_noticed() -> None:
    app: Any = Celery("elsewhere", broker="amqp://there//", set_as_current=False)
    assert use_broker(app, "amqp://there//") is None
    assert use_broker(app, "amqp://guest:guest@127.0.0.1:9/x") == "amqp://there//"


def test_a_plain_app_gets_advice_after_which_the_doctor_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "prove_surveyed"
    (tmp_path / f"{name}.py").write_text(
        "from celery import Celery\n"
        "app = Celery('plain', broker='amqp://', set_as_current=False)\n"
        "@app.task(name='plain.add', shared=False)\ndef add(x): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        answer = look(Question(name, "plain.add", [[1], {"x": 2}], "4.3.0"))
        with pytest.raises(UsageError, match=r"^Line 2 of the arguments does not fit plain\.add"):
            look(Question(name, "plain.add", [[1], [1, 2]]))
        with pytest.raises(UsageError, match=r"^The app has no task 'plain\.ad'\. It has plain\.add"):
            look(Question(name, "plain.ad", [[]]))
    finally:
        sys.modules.pop(name)
    assert "BZ101" in answer.findings
    assert (answer.left, answer.by_hand) == ([], [])


def test_an_app_with_300_tasks_is_looked_at_and_a_wrong_name_lists_a_few_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "prove_many"
    (tmp_path / f"{name}.py").write_text(
        "from celery import Celery\n"
        "app = Celery('many', broker='amqp://', set_as_current=False)\n"
        "def work(x): pass\n"
        "for number in range(300):\n"
        "    app.task(name=f'many.work_{number:03}', shared=False)(work)\n"
    )
    monkeypatch.chdir(tmp_path)
    # pytest's plug-in for Celery shares some tasks with each app.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    try:
        answer = look(Question(name, "many.work_299", [[1]], "4.3.0"))
        with pytest.raises(UsageError) as raised:
            look(Question(name, "many.work_300", [[1]]))
    finally:
        sys.modules.pop(name)
    assert (answer.tasks, answer.left) == (300, [])
    assert str(raised.value) == (
        "The app has no task 'many.work_300'. It has many.work_000, many.work_001, many.work_002,"
        " many.work_003, many.work_004 and 295 more."
    )


# The plugin.


def test_the_plugin_keeps_another_sitecustomize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w').close()\n")
    folder = plugin.make_folder(ours, plugin.Configuration(str(tmp_path), "amqp://"))
    monkeypatch.setattr(sys, "path", [str(folder), str(theirs), *sys.path])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    plugin.load(str(folder / "plugin.json"))
    assert (tmp_path / "loaded").exists()


def test_the_plugins_configuration_is_for_its_owner_only(tmp_path: Path) -> None:
    configuration = plugin.Configuration("records", "amqp://user:secret@here/", Change({"a": None}))
    folder = plugin.make_folder(tmp_path / "plugin", configuration)
    assert plugin.Configuration.read(folder / "plugin.json") == configuration
    assert (folder / "plugin.json").stat().st_mode & 0o077 == 0
    assert "secret" not in repr(configuration)


# The command and its report.


def reported(**more: Any) -> ProofReport:
    lost = judged(call(started=1), rows=0)
    proof = Proof(
        [TrialResult("no fault", accepted=1, succeeded=1, rows=1), lost, lost], {"latency": "Why <not>?"}
    )
    facts = {
        "app": "<shop>",
        "task": "t",
        "command": "celery",
        "rabbitmq": "4.3",
        "seed": 5,
        "confirms": False,
    }
    return ProofReport(**{**facts, "as_it_is": proof, "findings": {"BZ101": "Early."}, **more})


def test_the_table_has_the_sums_of_the_tries_and_the_worst_verdict() -> None:
    _, row = report.rows(reported().as_it_is)
    assert row["verdict"] == "loses"
    assert (row["tries"], row["lost"], row["rows"], row["explained by"]) == ("2", "2", "0", "BZ101")


def test_the_report_is_one_file_that_shows_both_tables_and_escapes_names() -> None:
    fixed = Proof([TrialResult("no fault", accepted=1, succeeded=1)])
    page = report.page(reported(fixed=fixed, changed={"task_acks_late": True}))
    assert "&lt;shop&gt;" in page
    assert "<shop>" not in page
    assert "task_acks_late = True" in page
    assert page.count("<table>") == 2
    assert "src=" not in page
    assert "href=" not in page


def test_in_chinese_the_report_and_the_table_are_chinese_and_the_json_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANGUAGE", "")  # `speak` sets it, and monkeypatch sets it back
    in_english = report.dumped(reported())
    language.speak("zh")
    try:
        page = report.page(reported(findings={"BZ101": RULES[0].sentence}))
        table = report.table(reported().as_it_is).text(80)
        assert report.dumped(reported()) == in_english
    finally:
        language.speak("en")
    assert '<html lang="zh-CN">' in page
    assert "应用会丢失：3 次被接收的调用丢失了 2 次。" in page
    assert "<li>BZ101：worker 被杀死时会丢失任务的消息：" in page
    assert '<tr class="loses"><td>kill-worker</td><td>丢失</td>' in page
    assert "跳过 latency：Why &lt;not&gt;?" in page
    assert table.split()[:5] == ["故障", "结果", "次数", "被接收", "成功"]


def test_the_report_says_what_accepted_means() -> None:
    assert "does not wait for the broker" in reported().accepted_means
    assert "the broker had confirmed" in reported(confirms=True).accepted_means


def test_the_results_are_json_with_each_try() -> None:
    found = json.loads(report.dumped(reported()))
    assert [it["judgement"] for it in found["as_it_is"]["tries"]] == ["sound", "loses", "loses"]
    assert found["seed"] == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "No app is named"),
        ({"app": "x", "broker": "amqp://u:p@there//"}, r"amqp://u:\*\*\*@there// may have other users"),
        ({"app": "x", "i_own_this_broker": True}, "No broker is named"),
        ({"app": "x", "task": "t"}, "t is executed for real"),
        ({"app": "x", "effect_sql": "select 1"}, "need each other"),
        ({"app": "x", "on": "cluster"}, "There is no broker 'cluster'"),
        ({"app": "x", "task": "t", "yes": True, "args": Path("/none/there")}, "cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as raised:
        prove_command(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "There are no arguments"), ("[1]\n{", "Line 2 .* is not JSON"), ("5", "Line 1 .* neither a list")],
)
def test_arguments_that_are_not_json_lines_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "args.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        prove_command(app="x", task="t", args=file, yes=True)
