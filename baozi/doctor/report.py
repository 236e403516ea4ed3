"""Formats the findings as text and as JSON."""

import re
import shutil
import textwrap
from typing import Any

from baozi.columns import padded, wrapped
from baozi.doctor.examination import Examination, Finding
from baozi.doctor.rules import RULES, Severity
from baozi.language import Sentence, speaks_english, translated
from baozi.shown import shown

#: Columns of a terminal that is narrower or wider than prose can be read in.
_NARROWEST, _WIDEST = 40, 100
#: How a count of each severity is put.
_COUNTED = {
    Severity.LOSES: (Sentence("{count} loses messages"), Sentence("{count} lose messages")),
    Severity.REPEATS: (Sentence("{count} repeats work"), Sentence("{count} repeat work")),
    Severity.STOPS: (Sentence("{count} stops work"), Sentence("{count} stop work")),
    Severity.SLOWS: (Sentence("{count} slows it"), Sentence("{count} slow it")),
}


_WORDS = {
    Severity.LOSES: Sentence("loses"),
    Severity.REPEATS: Sentence("repeats"),
    Severity.STOPS: Sentence("stops"),
    Severity.SLOWS: Sentence("slows"),
}
#: What begins the lines of a finding.
_LABELS = (Sentence("found"), Sentence("write"), Sentence("see"), Sentence("for"))


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
        told += _wrapped(translated("Not looked at: {what}.", what=shown(translated(what))), columns, "  ")
    blind = ", ".join(rule.id for rule in RULES if rule.check is None)
    unseen = translated("Cannot be seen from outside: {rules} (docs/doctor.md says why).", rules=blind)
    return told + _wrapped(unseen, columns, "  ")


def _finding(it: Finding, columns: int) -> list[str]:
    rule = it.rule
    found, write, see, versions = (f"  {padded(translated(label), 5)}  " for label in _LABELS)
    happens = translated(
        "{severity}: {sentence}",
        severity=translated(_WORDS[rule.severity]),
        sentence=translated(rule.sentence),
    )
    return [
        *_wrapped(f"{rule.id}  {happens}", columns, "  "),
        *_wrapped(f"{found}{shown(it.evidence)}", columns, " " * 9),
        *(
            f"{write if number == 0 else ' ' * 9}{line}"
            for number, line in enumerate(translated(rule.instead).split("\n"))
        ),
        f"{see}{rule.source}",
        *(
            []
            if rule.versions == "all"
            else _wrapped(f"{versions}{translated(rule.versions)}", columns, " " * 9)
        ),
    ]


def _wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    if speaks_english():
        return textwrap.wrap(text, columns, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return wrapped(text, columns, indent)


def _sum(result: Examination) -> str:
    if not result.findings:
        return translated("No finding.")
    told = [
        translated(_COUNTED[severity][count != 1].template, count=count)
        for severity in Severity
        if (count := result.count(severity))
    ]
    if len(result.findings) == 1:
        return translated("1 finding: {counts}.", counts=told[0])
    return translated("{count} findings: {counts}.", count=len(result.findings), counts=", ".join(told))


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
