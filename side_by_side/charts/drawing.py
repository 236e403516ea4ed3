"""What all pictures have in common: their style, and the conversion of matplotlib's SVG for an HTML page."""

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

#: The widths of a picture in CSS pixels. At these widths its text is as large as the page's.
WIDE, NARROW = 960, 358

#: The colours of Okabe and Ito, which colour-blind people can distinguish, without the yellow, which is hard
#: to see on white. Lines and dots also differ by their dashes and marks.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#7a7a7a")
INK, FAINT, GROUND = "#010203", "#c0c1c2", "#fdfefc"
#: The variable of the page's style sheet for each colour, so that a dark page has a dark picture.
_VARIABLES = {INK: "currentColor", FAINT: "var(--line)", GROUND: "var(--ground)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(COLOURS)
}
_LOOK = {
    "svg.fonttype": "none",  # text remains text: small, searchable, and in the page's font
    "svg.hashsalt": "baozi",  # the same results give the same file
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "font.sans-serif": ["DejaVu Sans"],  # measures the text; it is wider than the fonts of browsers
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
}
#: What is removed from matplotlib's SVG, because the page has its own or does not need it. The ids get a key,
#: because a page has several pictures.
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
#: The longest name that fits beside a picture, in characters.
_NAME = 24


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, in both widths."""

    wide: Markup
    narrow: Markup


def short(name: str) -> str:
    """Return ``name``, shortened if it does not fit beside a picture. The tables have the whole name."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield an empty figure of this size in CSS pixels, and axes that fill it."""
    # The browser draws characters that matplotlib's font lacks.
    # The user's matplotlibrc is not used.
    with style.context(["default", _LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        close = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=close)
        yield figure, figure.add_subplot()


def svg(figure: Figure, key: str, title: str, description: str) -> Markup:
    """Return ``figure`` as an SVG element.

    Args:
        figure: from ``canvas``, inside its ``with``.
        key: unique in the page; part of each id of this picture.
        title: what it is, for readers who cannot see it.
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
