"""A proof as lines for a terminal and as one file of HTML, both in the reader's language, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from baozi.language import Sentence, speaks_english, translated
from baozi.prove.judging import Judgement, TrialResult, worst
from baozi.prove.proof import Proof
from baozi.tables import Column, Table

#: The columns of the table: the title, and the field of which the tries' sum is shown.
_SUMS = {
    Sentence("accepted"): "accepted",
    Sentence("succeeded"): "succeeded",
    Sentence("lost"): "lost",
    Sentence("twice"): "twice",
    Sentence("failed"): "failed",
    Sentence("dead"): "dead",
    Sentence("waiting"): "waiting",
    Sentence("redelivered"): "redelivered",
}
#: The other columns, and the verdicts.
_TEXTS = (
    Sentence("fault"),
    Sentence("verdict"),
    Sentence("tries"),
    Sentence("rows"),
    Sentence("explained by"),
)
_VERDICTS = (Sentence("sound"), Sentence("repeats"), Sentence("stops"), Sentence("loses"))
#: Columns that a terminal shows only if something is in them.
_ONLY_IF_ANY = ("failed", "dead", "waiting", "redelivered")


@dataclass(frozen=True)
class ProofReport:
    """What one command found out."""

    app: str
    task: str
    command: str
    rabbitmq: str
    seed: int
    confirms: bool
    as_it_is: Proof
    findings: Mapping[str, str]
    """The doctor's findings: their sentences by their ids."""
    fixed: Proof | None = None
    """The same plan with the advised settings; None without ``--with-fixes``."""
    fixed_confirms: bool = True
    changed: Mapping[str, Any] = field(default_factory=dict)
    """The settings that were changed for that."""
    by_hand: Sequence[str] = ()
    """Findings whose advice was not applied."""

    @property
    def accepted_means(self) -> Sentence:
        """What the app's own standard of "accepted" is."""
        return _accepted_means(self.confirms)


def _accepted_means(confirms: bool) -> Sentence:
    if confirms:
        return Sentence(
            "Accepted: apply_async returned without an error, so the broker had confirmed the message"
            " (confirm_publish is on)."
        )
    return Sentence(
        "Accepted: apply_async returned without an error. It does not wait for the broker (confirm_publish is"
        " off)."
    )


def as_json(report: ProofReport) -> dict[str, Any]:
    """Return what ``--json`` prints and ``results.json`` contains."""
    return {
        "app": report.app,
        "task": report.task,
        "command": report.command,
        "rabbitmq": report.rabbitmq,
        "seed": report.seed,
        "accepted_means": report.accepted_means,
        "judgement": report.as_it_is.judgement.word,
        "findings": dict(report.findings),
        "as_it_is": _proof_as_json(report.as_it_is),
        "with_fixes": None if report.fixed is None else _proof_as_json(report.fixed),
        "changed": dict(report.changed),
        "by_hand": list(report.by_hand),
    }


def _proof_as_json(proof: Proof) -> dict[str, Any]:
    tries = [{**asdict(it), "judgement": it.judgement.word} for it in proof.results]
    return {"tries": tries, "skipped": proof.skipped}


def _row(proof: Proof, fault: str) -> dict[str, str]:
    tries = proof.of(fault)
    row = {"fault": fault, "verdict": worst(tries).word, "tries": str(len(tries))}
    row |= {title: f"{sum(getattr(it, name) for it in tries):,}" for title, name in _SUMS.items()}
    if any(it.rows is not None for it in tries):
        row["rows"] = f"{sum(it.rows or 0 for it in tries):,}"
    row["explained by"] = ", ".join(dict.fromkeys(id_ for it in tries for id_ in it.explained_by)) or "–"
    return row


def rows(proof: Proof) -> list[dict[str, str]]:
    """Return the table of a proof: for each fault, a text for each column, in English."""
    return [_row(proof, fault) for fault in proof.faults]


def _cells(line: Mapping[str, str]) -> list[str]:
    """Return a row in the reader's language."""
    return [translated(text) if title in {"fault", "verdict"} else text for title, text in line.items()]


def table(proof: Proof) -> Table:
    """Return the table of a proof for a terminal."""
    lines = rows(proof)
    idle = {title for title in _ONLY_IF_ANY if all(line[title] == "0" for line in lines)}
    words = {"fault", "verdict", "explained by"}
    made = Table(
        *(Column(translated(title), right=title not in words) for title in lines[0] if title not in idle)
    )
    for line in lines:
        made.add_row(*_cells({title: text for title, text in line.items() if title not in idle}))
    return made


def remarks(proof: Proof) -> list[Sentence]:
    """Return what the table has no room for: what stopped, where calls were lost, what was skipped."""
    told = list[Sentence]()
    for fault in proof.faults:
        for it in proof.of(fault):
            told += [
                Sentence("{fault}: {count} lost, {place}.", fault=fault, count=number, place=Sentence(place))
                for place, number in it.lost_at.items()
            ]
            if it.stopped:
                told.append(Sentence("{fault}: {stopped}.", fault=fault, stopped=Sentence(it.stopped)))
    told += [
        Sentence("{fault} was skipped: {why}", fault=fault, why=Sentence(why))
        for fault, why in proof.skipped.items()
    ]
    return list(dict.fromkeys(told))


def explanations(report: ProofReport) -> list[Sentence]:
    """Return a line for each of the doctor's findings that explains a verdict."""
    named = dict.fromkeys(id_ for it in report.as_it_is.results for id_ in it.explained_by)
    return [
        Sentence("{rule}: {sentence}", rule=id_, sentence=Sentence(report.findings[id_])) for id_ in named
    ]


def conclusion(results: Sequence[TrialResult]) -> Sentence:
    """Return the result in one sentence."""
    lost, accepted = sum(it.lost for it in results), sum(it.accepted for it in results)
    verdict = worst(results)
    if verdict is Judgement.LOSES:
        return Sentence(
            "The app loses: {lost} of {accepted:,} accepted calls are gone.", lost=lost, accepted=accepted
        )
    if verdict is Judgement.STOPS:
        return Sentence(
            "The app stops: none of {accepted:,} accepted calls is gone, but some work does not go on.",
            accepted=accepted,
        )
    if verdict is Judgement.REPEATS:
        return Sentence(
            "The app repeats: none of {accepted:,} accepted calls is gone, and {twice} succeeded twice.",
            accepted=accepted,
            twice=sum(it.twice for it in results),
        )
    return Sentence(
        "Sound: none of {accepted:,} accepted calls is lost or done twice under these faults.",
        accepted=accepted,
    )


def page(report: ProofReport) -> str:
    """Return the report as one file of HTML, which needs nothing else."""
    template = Template(files("baozi.prove").joinpath("report.html").read_text(encoding="utf-8"))
    parts = [_section(Sentence("As it is"), report.as_it_is, report.accepted_means)]
    if report.fixed is not None:
        parts.append(
            _section(
                Sentence("With the advised settings"), report.fixed, _accepted_means(report.fixed_confirms)
            )
        )
    changed = "\n".join(f"{name} = {value!r}" for name, value in report.changed.items())
    return template.substitute(
        language="en" if speaks_english() else "zh-CN",
        title=escape(translated("What {app} loses", app=report.app)),
        conclusion=escape(translated(conclusion(report.as_it_is.results))),
        facts=escape(
            translated(
                "Task {task}, workers `{command}`, RabbitMQ {version}, seed {seed}.",
                task=report.task,
                command=report.command,
                version=report.rabbitmq,
                seed=report.seed,
            )
        ),
        why=escape(translated("Why")),
        sections="\n".join(parts),
        explanations="\n".join(f"<li>{escape(translated(it))}</li>" for it in explanations(report)),
        changed=f"<h2>{escape(translated('What was changed'))}</h2><pre>{escape(changed)}</pre>"
        if changed
        else "",
    )


def _section(title: str, proof: Proof, accepted_means: str) -> str:
    lines = rows(proof)
    head = "".join(f"<th>{escape(translated(it))}</th>" for it in lines[0])
    body = "\n".join(
        f'<tr class="{line["verdict"]}">' + "".join(f"<td>{escape(it)}</td>" for it in _cells(line)) + "</tr>"
        for line in lines
    )
    said = "".join(f"<li>{escape(translated(it))}</li>" for it in remarks(proof))
    return (
        f"<section><h2>{escape(translated(title))}</h2><p>{escape(translated(accepted_means))}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{said}</ul></section>"
    )


def dumped(report: ProofReport) -> str:
    """Return ``results.json``."""
    return json.dumps(as_json(report), ensure_ascii=False, indent=1) + "\n"
