"""docs/doctor.md has the rules as they are."""

from pathlib import Path

import pytest

from baozi.doctor.report import rows
from baozi.doctor.rules import RULES, Rule

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_page_has_the_table_of_the_rules() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith("| BZ")] == rows()


@pytest.mark.parametrize("rule", [it for it in RULES if it.check is None], ids=lambda it: it.id)
def test_the_page_says_what_a_danger_that_cannot_be_seen_would_need(rule: Rule) -> None:
    text = f"- {rule.id}: {rule.needs}."
    assert text in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", [it for it in RULES if it.source.startswith("docs/")], ids=lambda it: it.id)
def test_a_source_in_the_project_is_there(rule: Rule) -> None:
    assert (PAGE.parents[1] / rule.source).is_file()
