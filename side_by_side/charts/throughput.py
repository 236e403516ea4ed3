"""The throughput dots: baozi per second that are accepted and eaten on each transport."""

from collections.abc import Callable

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from baozi.language import Sentence, listed, translated
from baozi.quantities import interval, number
from side_by_side.charts.drawing import COLOURS, GROUND, NARROW, WIDE, Picture, canvas, short, svg
from side_by_side.comparison_results import ComparisonResults, Run, RunKind
from side_by_side.summary import Spread, runs_of, spread_of, transports

#: Above this ratio of the fastest to the slowest, the slowest could not be told from zero on a linear scale.
_LOGARITHMIC_FROM = 30
#: The distance of a dot from the middle of its transport. A transport has a height of 1; on a narrow screen
#: its upper part is for the name.
_ASIDE = 0.17

#: The colour, the mark and the value of each dot: accepted, and eaten.
_RATES: list[tuple[str, str, Callable[[Run], float]]] = [
    (COLOURS[0], "o", lambda run: run.accepted_per_second),
    (COLOURS[4], "s", lambda run: run.eaten_per_second),
]
_Rates = dict[str, list[Spread | None]]


def throughput(results: ComparisonResults) -> Picture | None:
    """Draw the rates of the flat-out runs; None if there are none."""
    rates: _Rates = {}
    for name in transports(results):
        if runs := runs_of(results.runs, name, RunKind.FLAT_OUT):
            rates[name] = [spread_of(runs, value) for *_, value in _RATES]
    if not rates:
        return None
    return Picture(_draw(rates, WIDE, "throughput-wide"), _draw(rates, NARROW, "throughput-narrow"))


def _draw(rates: _Rates, width: int, key: str) -> Markup:
    narrow = width == NARROW
    a_transport = 64 if narrow else 50
    with canvas(width, a_transport * len(rates) + 60) as (figure, axes):
        _scale(axes, rates, 0.34 if narrow else 0.16)
        axes.set_ylim(len(rates) - 0.5, -0.62 if narrow else -0.5)
        for place, (name, spreads) in enumerate(rates.items()):
            for side, spread, (colour, mark, _) in zip((-1, 1), spreads, _RATES, strict=True):
                _dot(axes, place + side * _ASIDE + (0.1 if narrow else 0), spread, colour, mark)
            if narrow:
                across = axes.get_yaxis_transform()
                axes.text(0, place - 0.33, short(name), transform=across, weight="bold", size=12)
        axes.set_yticks(
            [] if narrow else range(len(rates)), [] if narrow else list(map(short, rates)), size=13
        )
        axes.spines["left"].set_visible(False)
        return svg(figure, key, translated("Baozi per second, flat out"), _said(rates))


def _scale(axes: Axes, rates: _Rates, room: float) -> None:
    """Set the scale; ``room`` is the part of the width at the right that is free for the numbers."""
    values = [value for spreads in rates.values() for spread in spreads if spread for value in spread.values]
    seen = [value for value in values if value > 0] or [1.0]
    low, high = min(seen), max(seen)
    label = translated("baozi per second")
    if high / low > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        left = low / 3
        axes.set_xlim(left, left * (high / left) ** (1 / (1 - room)))
        axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        label = translated("baozi per second, each line is ten times the one before")
    else:
        axes.set_xlim(0, high / (1 - room))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_xlabel(label)
    axes.grid(axis="x")


def _dot(axes: Axes, place: float, spread: Spread | None, colour: str, mark: str) -> None:
    """Draw the median and the range. An unstable median is not drawn."""
    start = axes.get_xlim()[0]
    if spread is None or spread.median <= start:
        axes.text(start, place, f"  {translated('none')}", va="center", size=11)
        return
    low, high = max(spread.low, start), spread.high
    if high > low:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, marker="|", markersize=9)
    if not spread.unstable:
        axes.plot(spread.median, place, color=colour, marker=mark, markersize=9, markeredgecolor=GROUND)
    text = translated("unstable") if spread.unstable else number(spread.median)
    axes.annotate(text, (high, place), (9, 0), textcoords="offset points", va="center", size=11)


def _said(rates: _Rates) -> str:
    each = (
        Sentence(
            "{transport} {accepted} and {eaten}",
            transport=name,
            accepted=_figure(first),
            eaten=_figure(second),
        )
        for name, (first, second) in rates.items()
    )
    return translated("Baozi per second, accepted and eaten: {each}.", each=listed(each))


def _figure(spread: Spread | None) -> str:
    if spread is None:
        return Sentence("none")
    return interval(number(spread.low), number(spread.high)) if spread.unstable else number(spread.median)
