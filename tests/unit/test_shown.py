"""Text of unknown origin reaches a terminal, a table or JSON as data."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baozi.audit import Audit, Sums
from baozi.audit_command import print_audit
from baozi.errors import NotABaozi, UsageError
from baozi.model import Baozi, Tray, checked_name
from baozi.shown import shown, shown_json, shown_lines, to_json
from baozi.tables import Table

#: What Rich would take for markup or an emoji, alone and within more.
MARKUP = [
    *("[red]", "[vip]alex", "alex", "[/]", "[/red]", "[bold red]x[/bold red]", ":bug:", "a:beer:b", "[[x]]"),
    *("[link=x]y", "\\[red]", "[@click=f()]x", "[1, 2]", "a[/x]b", "[]", "[not bold]", ":+1:", ":bug-text:"),
]
#: One format character of each kind, and others that nobody can see.
FORMAT = [
    *("\u202a", "\u202c", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c"),
    *("\u200b", "\u200c", "\u200d", "\u2060", "\u2064", "\ufeff", "\u00ad", "\u180e", "\u206a"),
    *("\ufff9", "\U000e0001", "\U000e0041", "\U0001d173"),
]
INVISIBLE = [
    *FORMAT,
    "\u3164",
    "\u115f",
    "\uffa0",
    "\u034f",
    "\ufe0f",
    "\U000e0100",
    "\u2800",
    "\u00a0",
    "\u3000",
]
CONTROLS = [
    "\x00",
    "\x07",
    "\x08",
    "\t",
    "\n",
    "\r",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u2029",
    "\ud800",
]


@pytest.mark.parametrize("letter", [*INVISIBLE, *CONTROLS])
def test_invisible_characters_are_escaped(letter: str) -> None:
    assert shown(f"a{letter}b").isascii()
    assert shown(f"a{letter}b") != shown("ab")
    assert shown_lines(f"包{letter}子").replace("\n", "").isprintable()
    said = to_json({letter: [letter, {"of": f"a{letter}"}]})
    assert said.isprintable()
    assert json.loads(said) == {letter: [letter, {"of": f"a{letter}"}]}


@given(st.text())
def test_any_text_can_be_printed_on_a_terminal_and_has_the_same_meaning_in_json(text: str) -> None:
    assert shown(text).isprintable()
    assert shown_json(json.dumps(text, ensure_ascii=False)).isprintable()
    assert json.loads(to_json(text)) == text


@pytest.mark.parametrize("text", ["alex", "小明", "café", "a b", "😀", "%s {0} \\n", "a/b", "नमस्ते"])
def test_printable_text_is_shown_unchanged(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"\x00\xff", {1: None}, {"a": {"b": (1, float("nan"))}}]
)
def test_json_is_json_whatever_the_value(value: Any) -> None:
    json.loads(to_json({"value": value}), parse_constant=pytest.fail)


@pytest.mark.parametrize("name", MARKUP)
def test_a_table_shows_a_name_unchanged(name: str) -> None:
    table = Table("name", "count")
    table.add_row(name, "1")
    assert table.text(100).splitlines()[2].startswith(f" {name} ")


@pytest.mark.parametrize("letter", [*INVISIBLE, *CONTROLS])
def test_names_that_look_alike_differ_in_a_table(letter: str) -> None:
    table = Table("name")
    table.add_row(f"al{letter}ex")
    table.add_row("alex")
    text = table.text(100)
    assert text.replace("\n", "").isprintable()
    assert text.count("alex") == 1


def test_the_audit_shows_each_producer_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    names = [*MARKUP, "a\u202eb", "a\x1b[2Jb"]
    columns = ("accepted", "attempted", "eaten", "lost", "duplicated", "recovered", "unexpected", "dead")
    sums: dict[str, Any] = {**dict.fromkeys(columns, 1), "missing": [(0, 1)]}
    rows = [Sums.model_construct(producer=name, **sums) for name in names]
    total = Sums.model_construct(producer="total", **sums)
    print_audit(Audit.model_construct(run="[red]\u202e", producers=rows, total=total))
    said = capsys.readouterr().out
    for name in names:
        assert [line for line in said.splitlines() if line.startswith(shown(name))], name
    assert "run [red]\\u202e: " in said
    assert "\u202e" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("letter", FORMAT)
def test_a_new_name_may_not_have_a_format_character(letter: str) -> None:
    assert unicodedata.category(letter) == "Cf"
    for name in (letter, f"a{letter}", f"{letter}a", f"a{letter}b"):
        with pytest.raises(UsageError, match="control characters") as caught:
            checked_name(name, "producer")
        assert str(caught.value).isprintable()
        for field in ("run", "producer"):
            item = {"run": "r", "producer": "p", "number": 0, "made_at": 1.0, field: name}
            with pytest.raises(NotABaozi, match="control characters"):
                Baozi.parse(item)


@pytest.mark.parametrize("letter", FORMAT)
def test_an_old_name_with_a_format_character_is_found_and_shown_with_it_written_out(letter: str) -> None:
    name = f"a{letter}b"
    assert checked_name(name, "run", old=True) == name
    item = {"run": name, "producer": name, "made_at": 1.0}
    (old,) = Tray.parse({**item, "numbers": [3]}, old=True).baozi
    assert old.id == Baozi.parse({**item, "number": 3}, old=True).id == f"{name}/{name}/3"
    assert old.made_line.isprintable()
    assert old.eaten_line(name).isprintable()


@pytest.mark.parametrize("letter", [letter for letter in CONTROLS if letter != "\ud800"])
def test_a_control_character_is_in_no_name_old_or_new(letter: str) -> None:
    with pytest.raises(UsageError):
        checked_name(f"a{letter}b", "run", old=True)
