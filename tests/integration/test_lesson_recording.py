"""A run of the lesson, recorded from real processes."""

from pathlib import Path

from side_by_side import journal_analysis
from side_by_side.comparison_results import Verdict
from side_by_side.lesson.recorder import record_run
from side_by_side.lesson.scenarios import scenes


def test_a_recording_has_what_the_journals_have(tmp_path: Path) -> None:
    scene = next(
        it for it in scenes() if (it.failure.name, it.transport.name) == ("kill-busy-consumer", "queue")
    )
    run = record_run(scene, tmp_path, None)
    lines = journal_analysis.read_lines(tmp_path)
    start = lines[0].entry.at
    assert [
        (at, event, f"lesson/{producer}/{number}", who) for at, event, producer, number, who in run.lines
    ] == [
        (round(line.entry.at - start, 4), line.entry.event, line.entry.baozi_id, line.name) for line in lines
    ]
    assert run.counts == journal_analysis.count(line.entry for line in lines)
    assert (run.verdict, run.counts.lost) == (Verdict.LOST, 1)
    assert run.kill is not None
    assert run.kill.name in {
        who for at, event, _, _, who in run.lines if event == "started" and at < run.kill.at
    }
