"""How every picture is drawn: its look, and matplotlib's SVG made fit to stand inside a page."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

#: Widths in CSS pixels for which a picture is drawn: its letters are then as large as the page's.
WIDE, NARROW = 960, 358

#: The colours of Okabe and Ito, which everybody can tell apart, without the yellow that white swallows. No
#: picture rests on them alone: lines have their dashes and marks, bars their hatches.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#7a7a7a")
INK, FAINT, GROUND = "#010203", "#c0c1c2", "#fdfefc"
#: What the page's style sheet says of each colour, so that a dark page has a dark picture.
_VARIABLES = {INK: "currentColor", FAINT: "var(--line)", GROUND: "var(--ground)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(COLOURS)
}
_LOOK = {
    "svg.fonttype": "none",  # letters stay letters: small, searchable, and in the page's own font
    "svg.hashsalt": "baozi",  # the same results give the same file
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own, to measure with: wider than what browsers have
    "font.size": 12.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "hatch.linewidth": 1.3,
}
#: What is taken out of matplotlib's SVG, for the page has its own or has no use for it; and its ids get a
#: key, for several pictures stand in one page.
_TIDYING = [
    (r"<!--.*?-->", ""),
    (r"<style.*?</style>", ""),
    (r"<metadata>.*?</metadata>", ""),
    (r"<g id=\"[^\"]*\"", "<g"),
    (r" font-family: [^;\"]*;", ""),
    (r"\bid=\"", 'id="KEY-'),
    (r"xlink:href=\"#", 'href="#KEY-'),
    (r"url\(#", "url(#KEY-"),
    (r"\s*\n\s*", " "),
]
#: Letters of a name that fit beside a picture.
_NAME = 24


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture in its two widths."""

    wide: Markup
    narrow: Markup


def short(name: str) -> str:
    """Return ``name`` so that it fits beside a picture; the tables have all of it."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield an empty figure of so many CSS pixels, and the axes that fill it."""
    # A name in letters that matplotlib's own font lacks is drawn by the browser, which has them.
    # The user's own matplotlibrc has no say.
    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        close = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=close)
        yield figure, figure.add_subplot()


def svg(figure: Figure, key: str, title: str, description: str) -> Markup:
    """Return ``figure`` as an SVG element.

    Args:
        figure: from ``canvas``, inside its ``with``.
        key: unique in the page; keeps this picture's ids apart from the others'.
        title: what it is, for who does not see it.
        description: what it shows, in numbers.
    """
    file = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    opening, body = file.getvalue().partition("<svg")[2].split(">", 1)
    view_box = opening.partition('viewBox="')[2].partition('"')[0]
    for pattern, instead in _TIDYING:
        body = re.sub(pattern, instead.replace("KEY", key), body, flags=re.DOTALL)
    body = re.sub(r'="[^"]*"', lambda attribute: re.sub(r"(\.\d\d)\d+", r"\1", attribute[0]), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    labels = f"<title id='{key}-title'>{escape(title)}</title>"
    labels += f"<desc id='{key}-desc'>{escape(description)}</desc>"
    opening = (
        f'<svg viewBox="{view_box}" role="img" aria-labelledby="{key}-title" aria-describedby="{key}-desc">'
    )
    return Markup(opening + labels + body)  # noqa: S704  # matplotlib escapes all text that it draws
