"""Formats the findings as text and as JSON."""

import re
import shutil
import textwrap
from typing import Any

from baozi.doctor.examination import Examination, Finding
from baozi.doctor.rules import RULES, Severity
from baozi.shown import shown

#: Columns of a terminal that is narrower or wider than prose can be read in.
_NARROWEST, _WIDEST = 40, 100
#: How a count of each severity is put.
_COUNTED = {
    Severity.LOSES: ("loses messages", "lose messages"),
    Severity.REPEATS: ("repeats work", "repeat work"),
    Severity.STOPS: ("stops work", "stop work"),
    Severity.SLOWS: ("slows it", "slow it"),
}


def as_json(result: Examination) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "app": result.app,
        "findings": [
            {
                "id": it.rule.id,
                "severity": it.rule.severity.word,
                "sentence": it.rule.sentence,
                "evidence": it.evidence,
                "instead": it.rule.instead,
                "source": it.rule.source,
                "versions": it.rule.versions,
            }
            for it in result.findings
        ],
        "counts": {severity.word: result.count(severity) for severity in Severity},
        "not_looked_at": result.unseen,
        "cannot_be_seen": [rule.id for rule in RULES if rule.check is None],
    }


def lines(result: Examination, width: int | None = None) -> list[str]:
    """Return what the command prints, for a terminal of ``width`` columns (default: this one's).

    The line to write and the address of the source are never broken, so that they can be copied.
    """
    columns = width or shutil.get_terminal_size().columns
    columns = max(_NARROWEST, min(_WIDEST, columns))
    told = [line for it in result.findings for line in (*_finding(it, columns), "")]
    told += _wrapped(_sum(result), columns)
    for what in result.unseen:
        told += _wrapped(f"Not looked at: {shown(what)}.", columns, "  ")
    blind = ", ".join(rule.id for rule in RULES if rule.check is None)
    return told + _wrapped(f"Cannot be seen from outside: {blind} (docs/doctor.md says why).", columns, "  ")


def _finding(it: Finding, columns: int) -> list[str]:
    rule = it.rule
    versions = [] if rule.versions == "all" else _wrapped(f"  for    {rule.versions}", columns, " " * 9)
    return [
        *_wrapped(f"{rule.id}  {rule.severity.word}: {rule.sentence}", columns, "  "),
        *_wrapped(f"  found  {shown(it.evidence)}", columns, " " * 9),
        *(
            f"  {'write' if number == 0 else '     '}  {line}"
            for number, line in enumerate(rule.instead.split("\n"))
        ),
        f"  see    {rule.source}",
        *versions,
    ]


def _wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, columns, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _sum(result: Examination) -> str:
    if not result.findings:
        return "No finding."
    told = [
        f"{count} {_COUNTED[severity][count != 1]}"
        for severity in Severity
        if (count := result.count(severity))
    ]
    findings = "finding" if len(result.findings) == 1 else "findings"
    return f"{len(result.findings)} {findings}: {', '.join(told)}."


def rows() -> list[str]:
    """Return the rows of the rules' table in docs/doctor.md, in Markdown."""
    return [
        f"| {rule.id} | {rule.severity.word} | {rule.sentence} | {rule.versions if rule.check else '–'} |"
        f" {_linked(rule.source)} |"
        for rule in RULES
    ]


def _linked(source: str) -> str:
    if not source.startswith("https://"):
        return f"[{source}]({source.removeprefix('docs/')})"
    if issue := re.fullmatch(r"https://github\.com/[^/]+/([^/]+)/issues/(\d+)", source):
        return f"[{issue[1]}#{issue[2]}]({source})"
    page, _, part = source.partition("#")
    return f"[{part or page.rpartition('/')[2]}]({source})"
