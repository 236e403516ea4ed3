"""The latency curves: seconds from attempted to eaten, by percentile, at one offered rate."""

import math
from collections import defaultdict
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from baozi.language import Sentence, listed, translated
from baozi.quantities import seconds
from side_by_side.charts.drawing import COLOURS, GROUND, INK, NARROW, WIDE, Picture, canvas, short, svg
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.summary import runs_of, transports

#: The percentiles at the axis. Each unit of the axis covers a tenth of the unit before it, so that the few
#: slow baozi get as much room as the many fast ones.
_NAMED = (0, 50, 90, 99, 99.9, 99.99, 99.999)
#: The marks and dashes of the lines, in addition to their colours.
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)), (0, (3, 1.5)), (0, (4, 2, 1, 2, 1, 2)))

_Curve = list[tuple[float, float]]


def latency(results: ComparisonResults) -> Picture | None:
    """Draw the median curve of each transport's runs at the offered rate; None if there are none."""
    curves: dict[str, _Curve] = {}
    for name in transports(results):
        curve = _median_curve(runs_of(results.runs, name, RunKind.FIXED_RATE))
        if curve:
            curves[name] = curve
    if not curves:
        return None
    return Picture(_draw(curves, WIDE, "latency-wide"), _draw(curves, NARROW, "latency-narrow"))


def _median_curve(runs: list[Run]) -> _Curve:
    by_percentile: defaultdict[float, list[float]] = defaultdict(list)
    for run in runs:
        for percentile, value in run.latency.curve if run.latency else []:
            if 0 <= percentile <= 100 and 0 < value < math.inf:
                by_percentile[percentile].append(value)
    return [(percentile, median(values)) for percentile, values in sorted(by_percentile.items())]


def _draw(curves: dict[str, _Curve], width: int, key: str) -> Markup:
    narrow = width == NARROW
    with canvas(width, max(400, 26 * len(curves) + 90)) as (figure, axes):
        last = max((p for curve in curves.values() for p, _ in curve if p < 100), default=0)
        most = _step(last) + 0.6
        _scale(axes, last, most, narrow)
        axes.set_xlim(-0.05, most * (1.48 if narrow else 1.17))
        for number, curve in enumerate(curves.values()):
            axes.plot(
                [most if p >= 100 else _step(p) for p, _ in curve],
                [value for _, value in curve],
                color=COLOURS[number % len(COLOURS)],
                linestyle=_DASHES[number % len(_DASHES)],
                marker=_MARKS[number % len(_MARKS)],
                markersize=8,
                markeredgecolor=GROUND,
                linewidth=1.8,
            )
        _name_lines(axes, curves, most, height=figure.get_figheight() * 72 - 70)
        return svg(figure, key, translated("Latency by percentile"), _said(curves))


def _step(percentile: float) -> float:
    return -math.log10(1 - percentile / 100)


def _scale(axes: Axes, last: float, most: float, narrow: bool) -> None:
    named = [percentile for percentile in _NAMED if percentile <= last]
    if narrow:
        # These labels would overlap: "fastest" with "half", the last percentile with "slowest".
        named = [percentile for percentile in named if percentile and most - _step(percentile) > 0.9]
    axes.xaxis.set_major_locator(FixedLocator([*map(_step, named), most]))
    labels = [
        translated("fastest") if p == 0 else translated("half") if p == 50 else f"{p:g}%" for p in named
    ]
    axes.set_xticklabels([*labels, translated("slowest")])
    axes.set_xlabel(translated("percentage that took no longer"))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    axes.grid()
    axes.spines["left"].set_visible(False)


def _name_lines(axes: Axes, curves: dict[str, _Curve], end: float, height: float) -> None:
    """Write each name beside the end of its line. If two ends are close, move their names apart."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    gap = 17 / height  # the height of a line of text
    wanted = sorted((math.log10(curve[-1][1]) - low) / (high - low) for curve in curves.values())
    names = sorted(curves, key=lambda name: curves[name][-1][1])
    for name, place in zip(names, _apart(wanted, gap), strict=True):
        percentile, value = curves[name][-1]
        ends = (end if percentile >= 100 else _step(percentile), value)
        number = list(curves).index(name)
        target = 10 ** (low + place * (high - low))
        axes.annotate(
            short(name),
            ends,
            (end * 1.035, target),
            va="center",
            color=INK,
            size=12,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[number % len(COLOURS)],
                "linewidth": 1,
                "shrinkA": 0,
                "shrinkB": 4,
            },
        )


def _apart(wanted: list[float], gap: float) -> list[float]:
    """Move rising positions apart until each is ``gap`` above the one below; if they fit, none is above 1."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    top = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], top)
        top = places[index] - gap
    return places


def _said(curves: dict[str, _Curve]) -> str:
    each = (
        Sentence(
            "{transport} from {low} for the fastest to {high} for the slowest",
            transport=name,
            low=seconds(curve[0][1]),
            high=seconds(curve[-1][1]),
        )
        for name, curve in curves.items()
    )
    return translated("{each}.", each=listed(each))
