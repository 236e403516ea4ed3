"""The command line in the reader's language: its catalogue is complete; help and errors are translated."""

import ast
import pickle
import re
import signal
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from rich.cells import cell_len

from baozi import command_line, language, status_command
from baozi.audit import Audit, Sums
from baozi.audit_command import print_audit
from baozi.columns import padded, width, wrapped
from baozi.commands import app_with
from baozi.doctor import report
from baozi.doctor.examination import Examination, Finding
from baozi.doctor.rules import RULES
from baozi.errors import BrokerAway, ExitCode, UsageError
from baozi.language import Sentence, listed, readers_language, translated
from baozi.library_sentences import recognized
from baozi.settings import settings
from baozi.status import Part, Status
from tests.running import run

ROOT = Path(__file__).parents[2]
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    """The program behind `make messages`, as a module."""
    spec = spec_from_loader("messages", SourceFileLoader("messages", str(ROOT / "deploy" / "messages")))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ended(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run the command line in this process. Return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["baozi", *arguments])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            command_line.run(app_with())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return (end.value.code, *capsys.readouterr())


def test_each_sentence_of_the_code_has_a_translation_and_the_compiled_catalogue_is_up_to_date() -> None:
    done = run([sys.executable, str(ROOT / "deploy" / "messages"), "--check"], timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("english", "chinese", "flags", "problem"),
    [
        ("eaten", "", (), "There is no translation of 'eaten'."),
        ("eaten", "吃掉", ("fuzzy",), "The translation is marked as fuzzy: 'eaten'."),
        ("{count} eaten", "吃掉 {number}", (), "The fields of the translation differ: '{count} eaten'."),
        ("{count:g} s", "{count} 秒", (), "The fields of the translation differ: '{count:g} s'."),
        ("eaten", "吃掉 {count}", (), "The fields of the translation differ: 'eaten'."),
        ("{count} eaten of {all}", "{all} 个里吃掉 {count} 个", (), None),
    ],
)
def test_a_wrong_translation_is_named(
    messages: ModuleType, english: str, chinese: str, flags: tuple[str, ...], problem: str | None
) -> None:
    catalog = Catalog(locale="zh")
    catalog.add(english, chinese, flags=flags)
    assert list(messages.problems(catalog)) == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ('raise UsageError(f"There is no run {name}.")', True),
        ('print(translated(f"There is no run {name}."))', True),
        ('raise UsageError("There is no run {name}." + f" {why}", name=name)', True),
        ('raise UsageError("There is no run {name}.", name=f"{name!r}")', False),
        ('log.info(f"There is no run {name}.")', False),
    ],
)
def test_an_error_or_a_sentence_with_an_f_string_is_found(
    messages: ModuleType, line: str, is_found: bool
) -> None:
    assert bool(list(messages.filled_in(ast.parse(line), {"UsageError", "translated"}))) is is_found


def test_a_new_sentence_is_put_in_the_catalogue_and_a_deleted_one_taken_out(
    messages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "sentences", lambda: iter(["Missing command.", "A sentence of this test."]))
    catalog = messages.renewed()
    assert {it.id: it.string or "" for it in catalog if it.id} == {
        "Missing command.": "缺少命令。",
        "A sentence of this test.": "",
    }
    assert b"#~" not in messages.written(catalog)[0]


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, [], "en"),
        ({"LANG": "zh_CN.UTF-8"}, [], "zh"),
        ({"LANG": "zh_TW"}, [], "zh"),
        ({"LANG": "de_DE.UTF-8"}, [], "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, [], "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, [], "en"),
        ({"LC_ALL": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, [], "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "de:zh_CN:en"}, [], "zh"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh_CN"}, [], "en"),
        ({"LC_ALL": "C", "LANGUAGE": "zh_CN"}, [], "en"),
        ({"LC_ALL": "C.UTF-8", "LANGUAGE": "zh_CN"}, [], "en"),
        ({"LANGUAGE": "zh_CN"}, [], "en"),
        ({"LANG": "zh_CN.UTF-8"}, ["--lang", "en"], "en"),
        ({}, ["audit", "--lang=zh"], "zh"),
        ({}, ["--lang", "zh", "audit"], "zh"),
        ({}, ["--lang"], "en"),
        ({"LANG": "zh_CN.UTF-8"}, ["--lang", "fr"], "zh"),
        ({}, ["audit", "--", "--lang", "zh"], "en"),
    ],
)
@pytest.mark.usefixtures("no_locale")
def test_the_language_is_that_of_the_option_or_else_of_the_locale_as_gettext_has_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: list[str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert readers_language(arguments) == expected


@pytest.mark.usefixtures("chinese")
def test_a_sentence_is_english_as_a_text_and_translated_with_its_fields() -> None:
    problem = Sentence("Invalid value for {name}: {problem}.", name="'--x'", problem=Sentence("required"))
    assert problem == "Invalid value for '--x': required."
    assert translated(problem) == "'--x' 的值无效：必填。"
    assert translated(pickle.loads(pickle.dumps(problem))) == "'--x' 的值无效：必填。"  # noqa: S301  # just pickled
    # A value that happens to be in the catalogue is a value.
    assert translated("Missing option {name}.", name="Commands") == "缺少选项 Commands。"
    assert translated("Missing command.") == "缺少命令。"
    assert translated("Not in the catalogue: {name}.", name="x") == "Not in the catalogue: x."
    three = listed([Sentence("required"), "a {plain} text", Sentence("none")])
    assert (three, translated(three)) == ("required, a {plain} text, none", "必填，a {plain} text，无")
    assert translated("") == ""


@pytest.mark.usefixtures("chinese")
def test_an_error_is_english_for_logs_and_callers_and_chinese_for_the_reader(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = pickle.loads(pickle.dumps(UsageError("Missing option {name}.", name="a\x1bb")))  # noqa: S301  # just pickled
    assert str(error) == r"Missing option a\x1bb."
    assert command_line.failed(error) == ExitCode.USAGE
    assert command_line.failed(BrokerAway()) == ExitCode.NO_BROKER
    assert capsys.readouterr().err == "缺少选项 a\\x1bb。\nbroker 没有响应；请确认它在运行，而且地址正确。\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["audi"], "没有命令 'audi'。是不是 'audit'？参见 --help。"),
        (["zzz"], "没有命令 'zzz'。参见 --help。"),
        (["audit"], "缺少参数 'run'。参见 --help。"),
        (["audit", "lunch", "--wait"], "选项 '--wait' 需要一个值。参见 --help。"),
        (["audit", "lunch", "--wait", "-1"], "'--wait' 的值无效：应该大于或等于 0。参见 --help。"),
        (["audit", "lunch", "--wait", "x"], "'--wait' 的值无效：应该是数。参见 --help。"),
        (["audit", "lunch", "--orders", "x"], "'--orders' 的值无效：应该是整数。参见 --help。"),
        (["audit", "lunch", "dinner"], "多余的参数（dinner）。参见 --help。"),
        (["audit", "lunch", "--jsom"], "没有选项 --jsom（可能是：--json）。参见 --help。"),
        (["audit", "lunch", "--zzz"], "没有选项 --zzz。参见 --help。"),
        (["audit", "lunch", "--json=1"], "选项 '--json' 不带值。参见 --help。"),
        (["status", "--lang", "fr"], "'--lang' 的值无效：'fr' 不是 'en', 'zh' 之一。参见 --help。"),
        (["dead", "replay"], "请给出要重新放入的死信，或者加上 --all。"),
    ],
)
@pytest.mark.usefixtures("chinese")
def test_what_typer_says_of_wrong_arguments_is_translated_and_the_exit_code_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert ended(capsys, monkeypatch, *arguments) == (ExitCode.USAGE, "", sentence + "\n")
    monkeypatch.setenv("LC_ALL", "C")
    code, out, err = ended(capsys, monkeypatch, *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.isascii()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BAOZI_WINDOW", "0", "BAOZI_WINDOW：应该大于或等于 1。"),
        (
            "BAOZI_BROKER_URL",
            "http://host",
            "BAOZI_BROKER_URL：协议不是 amqp 或 amqps，而 Baozi 只使用 RabbitMQ。",
        ),
    ],
)
@pytest.mark.usefixtures("chinese")
def test_a_wrong_setting_is_translated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(UsageError) as wrong:
        settings()
    assert translated(wrong.value.sentence) == sentence
    assert str(wrong.value).isascii()
    outer = UsageError("{name}: {problem}.", name="x", problem=wrong.value)
    assert translated(outer.sentence) == f"x：{sentence}。"


def test_an_unknown_sentence_of_a_library_stays_as_it_is() -> None:
    assert recognized("The moon is full.") == "The moon is full."


AUDIT = Audit(
    run="lunch",
    producers=[
        Sums(
            producer="小红",
            accepted=None,
            eaten=9_000,
            lost=2,
            duplicated=0,
            recovered=1,
            unexpected=0,
            dead=1,
            missing=[(3, 5), (7, 7)],
        )
    ],
    total=Sums(
        producer="all", accepted=None, eaten=9_000, lost=2, duplicated=0, recovered=1, unexpected=0, dead=1
    ),
    dead_reason=None,
)


@pytest.mark.usefixtures("chinese")
def test_the_audit_s_table_is_chinese_within_eighty_columns_and_its_json_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_audit(AUDIT)
    printed = capsys.readouterr().out
    assert max(map(cell_len, printed.splitlines())) <= 80
    assert [re.sub(r" {2,}", "  ", line).strip() for line in printed.splitlines()] == [
        "生产者  被接收  被吃掉  丢失  重复  找回  意外  死信",
        printed.splitlines()[1].strip(),
        "小红  ?  9,000  2  0  1  0  1",
        "",
        "合计  ?  9,000  2  0  1  0  1",
        "",
        "小红：订单没有关闭，所以不知道有多少被接收。",
        "小红：最先缺少的编号是 3 到 5，7。",
        "小红：1 个在死信里。",
        "没有关闭：小红 的订单。",
        "丢失：2 个被接收，但没有被吃掉。",
        "运行 lunch：被接收 ?，被吃掉 9,000，丢失 2，重复 0",
    ]
    print_audit(AUDIT, as_json=True)
    in_chinese = capsys.readouterr().out
    language.speak("en")
    print_audit(AUDIT, as_json=True)
    assert capsys.readouterr().out == in_chinese
    assert "Not closed: the order of 小红." in in_chinese


@pytest.mark.usefixtures("chinese")
def test_the_status_is_chinese_and_keeps_its_columns() -> None:
    seen = Status(
        home="/home",
        home_reason=Sentence("BAOZI_HOME names it"),
        broker=Part(facts={"url": "amqp://host", "version": "4.3", "queues": [], "management": None}),
        workers=Part(problem=Sentence("No other process sees workers in memory.")),
        ledger=Part(problem=BrokerAway().sentence),
        dead_letters=Part(facts={"reasons": {}, "at_most": 0, "looked_at": 0}),
    )
    assert list(status_command.lines(seen)) == [
        "文件夹        /home (由 BAOZI_HOME 指定)",
        "broker        RabbitMQ 4.3，amqp://host",
        "worker        别的进程看不到内存里的 worker。",
        "账本          broker 没有响应；请确认它在运行，而且地址正确。",
        "死信          没有查看",
    ]
    assert seen.model_dump(mode="json")["workers"]["problem"] == "No other process sees workers in memory."


@pytest.mark.usefixtures("chinese")
def test_the_doctor_s_headings_are_chinese_and_its_lines_are_wrapped() -> None:
    rule = RULES[0]
    lines = report.lines(Examination("shop", [Finding(rule, "task_acks_late is off " * 8)]), 60)
    assert lines[0].startswith(f"{rule.id}  丢失：")
    assert any(line.startswith("  发现   task_acks_late") for line in lines)
    assert any(line.startswith("  改为   ") for line in lines)
    assert "1 个发现：1 个会丢失消息。" in lines
    assert lines[0] == f"{rule.id}  丢失：worker 被杀死时会丢失任务的消息：它在任务运行之"
    assert "  改为   task_acks_late = True  # 任务必须允许运行两次（幂等）" in lines
    # The advice of a rule in Chinese has the same code: only comments and sentences differ.
    for one in RULES:
        english, in_chinese = (text.split("\n") for text in (one.instead, translated(one.instead)))
        assert len(english) == len(in_chinese)
        assert translated(one.sentence) != one.sentence
        for line, other in zip(english, in_chinese, strict=True):
            assert line.partition("#")[0] == other.partition("#")[0] or one.id in {"BZ203", "BZ204"}
    longest = max(cell_len(line) for line in lines if not line.startswith(("  改为", "  参见")))
    assert longest <= 60


@pytest.mark.usefixtures("chinese")
def test_the_help_of_each_command_is_chinese_and_fits_eighty_columns() -> None:
    pages = list(help_pages(command_line.command_of(app_with())))
    assert len(pages) > 30
    for page in pages:
        assert page.startswith("用法：baozi")
        assert "选项：" in page
        assert "Show this message" not in page
        assert max(map(cell_len, page.splitlines())) <= 80


def help_pages(command: Any, parent: Any = None, name: str = "baozi") -> Iterator[str]:
    context = command.context_class(command, parent=parent, info_name=name, terminal_width=78)
    yield command.get_help(context)
    for own, below in getattr(command, "commands", {}).items():
        yield from help_pages(below, context, own)


def test_a_chinese_locale_has_chinese_help_and_errors_and_an_option_has_english() -> None:
    environment = {"PATH": "/usr/bin:/bin", "LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8"}
    program = [sys.executable, "-m", "baozi"]
    done = run([*program, "ledger", "version", "--help"], timeout=60, environment=environment)
    assert "打印账本的 id" in done.stdout
    done = run([*program, "ledger", "version", "--help", "--lang", "en"], timeout=60, environment=environment)
    assert done.stdout.isascii()
    # A terminal without Chinese characters.
    environment["PYTHONIOENCODING"] = "ascii"
    done = run([*program, "ledger", "--zzz"], timeout=60, environment=environment)
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, "No such option: --zzz. See --help.\n")


def test_chinese_text_is_wrapped_by_columns_and_no_line_begins_with_a_comma() -> None:
    text = "启动生产者、消费者和 broker（例如 `baozi broker start`），并等待 30 秒；然后重新投递。"
    lines = wrapped(text, 20, "  ")
    assert lines == [
        "启动生产者、消费者和",
        "  broker（例如",
        "  `baozi broker",
        "  start`），并等待",
        "  30 秒；然后重新投",
        "  递。",
    ]
    assert max(map(width, lines)) <= 20
    assert wrapped("One paragraph of English text.", 14) == ["One paragraph", "of English", "text."]
    assert wrapped("", 10) == [""]
    assert padded("账本", 6) == "账本  "
