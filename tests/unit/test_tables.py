"""Tables on a terminal of any width and in Markdown, and the numbers, units and dates in them."""

from typing import Any

import pytest

from baozi.audit import Audit, Sums
from baozi.audit_command import print_audit
from baozi.quantities import age, count, date, interval, memory, number, seconds
from baozi.tables import Column, Table

HEADINGS = ("accepted", "eaten", "lost", "duplicated", "recovered", "unexpected", "dead")


def sums(producer: str) -> Sums:
    fields: dict[str, Any] = {**dict.fromkeys((*HEADINGS, "attempted"), 12_345), "missing": []}
    return Sums.model_construct(producer=producer, **fields)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_no_heading_and_no_number_of_an_audit_is_cut_off(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows, total = [sums("alex"), sums("a producer whose name is long")], sums("total")
    print_audit(Audit.model_construct(run="r", producers=rows, total=total))
    text = capsys.readouterr().out.partition("\n\nalex: ")[0]
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert all(heading in text for heading in HEADINGS)
    assert text.count("12,345") == 3 * len(HEADINGS)


def test_without_a_terminal_a_table_is_as_wide_as_it_needs_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", Column("reason", fold=True))
    table.add_row("小明", "word " * 60)
    table.print()
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split() == ["小明", *["word"] * 60]


def test_a_table_that_does_not_fit_is_printed_row_by_row() -> None:
    table = Table("name", Column("a long heading", right=True), "other", title="two rows")
    table.add_row("alex", "1", "x" * 30)
    table.add_row("[red]小明", "20", "y" * 30)
    assert table.text(40).split() == [
        *("two", "rows"),
        *("alex", "a", "long", "heading", "1", "other"),
        *("x" * 22, "x" * 8),
        *("[red]小明", "a", "long", "heading", "20", "other"),
        *("y" * 22, "y" * 8),
    ]
    # A long heading is broken, not cut off.
    assert table.text(80).splitlines()[2].split() == ["a", "long"]
    assert table.markdown().splitlines()[0] == "| name | a long heading | other |"


def test_a_column_that_may_be_folded_is_folded_before_that() -> None:
    table = Table(Column("name", fold=True), Column("count", right=True))
    table.add_row("n" * 60, "12,345")
    lines = table.text(40).splitlines()
    assert lines[0].split() == ["name", "count"]
    assert "12,345" in lines[2]
    assert sum(line.count("n") for line in lines[2:]) == 60


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(83_412), "83,400"),
        (number(0.0312), "0.0312"),
        (count(83_412), "83,412"),
        (count(None), "?"),
        (seconds(0.00021), "210 µs"),
        (seconds(12.41), "12.4 s"),
        (age(59), "59 s"),
        (age(5400), "1.5 h"),
        (age(None), "?"),
        (memory(340), "340 bytes"),
        (memory(14_200_000), "14.2 MB"),
        (date(0), "1970-01-01 00:00:00"),
        (date(None), "–"),
        (date(1e300), "1e+300"),
        (interval("1.1 ms", "2.2 ms"), "1.1 – 2.2 ms"),
    ],
)
def test_a_quantity_has_few_digits_and_a_unit_that_fits(shown: str, text: str) -> None:
    assert shown == text
