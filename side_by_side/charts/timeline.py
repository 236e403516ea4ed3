"""The timelines: a small picture for each kind of run, with the baozi accepted and eaten at each moment."""

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from baozi.language import Sentence, translated
from baozi.quantities import number, seconds
from side_by_side.charts.drawing import COLOURS, INK, canvas, svg
from side_by_side.comparison_results import ComparisonResults, Moment, Run, RunKind
from side_by_side.summary import NO_FAULT, faults, runs_of, transports

#: The size of a picture in CSS pixels: two fit side by side on a phone.
_WIDTH, _HEIGHT = 174, 118
#: Points of one line. More cannot be distinguished at this width.
_POINTS = 80


@dataclass(frozen=True, slots=True)
class Panel:
    """One small picture and its heading."""

    heading: str
    run: Run
    drawing: Markup


def timeline(results: ComparisonResults) -> dict[str, list[Panel]]:
    """Draw, for each transport, a flat-out run and one run under each fault."""
    panels: dict[str, list[Panel]] = {}
    for place, name in enumerate(transports(results)):
        kinds = [(str(NO_FAULT), runs_of(results.runs, name, RunKind.FLAT_OUT))]
        kinds += [(fault, runs_of(results.runs, name, fault=fault)) for fault in faults(results.runs)]
        drawn = [
            Panel(heading, run, _draw(run, heading, f"time-{place}-{column}"))
            for column, (heading, runs) in enumerate(kinds)
            for run in _one_of(runs)
        ]
        if drawn:
            panels[name] = drawn
    return panels


def _one_of(runs: list[Run]) -> list[Run]:
    """Return the first run that is not as expected, or else the first; none if no run has a timeline."""
    return sorted((run for run in runs if len(run.timeline) > 1), key=lambda run: run.as_expected)[:1]


def _draw(run: Run, heading: str, key: str) -> Markup:
    moments = _thinned(run.timeline)
    at = [moment.at for moment in moments]
    end = max(at[-1], run.seconds) or 1.0
    most = max(run.counts.attempted, *(max(moment.accepted, moment.eaten) for moment in moments), 1)
    with canvas(_WIDTH, _HEIGHT) as (figure, axes):
        # Eaten is an area and accepted a dashed line, so that both are visible where they overlap.
        eaten = [moment.eaten for moment in moments]
        axes.fill_between(at, eaten, color=COLOURS[4], alpha=0.35, linewidth=0)
        axes.plot(at, eaten, color=COLOURS[4], linewidth=2)
        axes.plot(at, [m.accepted for m in moments], color=COLOURS[0], linewidth=1.8, linestyle=(0, (4, 1.5)))
        _mark_fault(axes, run, most)
        axes.set_xlim(0, end)
        axes.set_ylim(0, most * 1.22)
        axes.set_xticks([0, end], ["0", seconds(end)], size=10.5)
        axes.set_yticks([most], [number(most)], size=10.5)
        first, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
        axes.grid(axis="y")
        return svg(figure, key, f"{run.transport}, {translated(heading)}", _said(run))


def _mark_fault(axes: Axes, run: Run, most: float) -> None:
    if run.fault_at is None:
        return
    axes.axvline(run.fault_at, color=INK, linewidth=1.2)
    axes.plot(
        run.fault_at, most * 1.16, marker="v", markersize=8, color=INK, markeredgewidth=0, clip_on=False
    )


def _thinned(moments: list[Moment]) -> list[Moment]:
    every = -(-len(moments) // _POINTS)
    kept = moments[::every]
    return kept if kept[-1] is moments[-1] else [*kept, moments[-1]]


def _said(run: Run) -> str:
    told = [
        Sentence(
            "After {time}: {accepted} accepted and {eaten} eaten, {verdict}.",
            time=seconds(run.seconds),
            accepted=number(run.counts.accepted),
            eaten=number(run.counts.eaten),
            verdict=run.verdict,
        )
    ]
    if run.fault_at is not None:
        told.append(Sentence("The fault came at {time}.", time=seconds(run.fault_at)))
    return " ".join(map(translated, told))
