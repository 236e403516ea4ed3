"""Every table: on a terminal of any width, and in Markdown. Cells are plain text.

A table that is wider than the terminal is printed row by row, with a line for each cell, so that no heading
and no number is cut off.
"""

import io
import shutil
import textwrap
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from baozi.shown import shown_lines

#: A heading may be this wide, even if its cells are narrower. A longer one is broken at a space or a hyphen.
_HEADING = 10
#: To this width a column that may be folded shrinks, before the table is printed row by row.
_FOLDED = 20
#: Wider than any table: to measure a table that is not limited by a terminal.
_UNLIMITED = 100_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    heading: str
    right: bool = False
    """Whether its cells are aligned at the right, as numbers are."""
    fold: bool = False
    """Whether a long cell may take several lines. A number may not."""


class Table:
    """Rows of cells below headings. The first cell names its row."""

    def __init__(self, *columns: Column | str, title: str = "") -> None:
        """Take the columns: a heading alone stands for a column of text."""
        self.title = title
        self._columns = [Column(it) if isinstance(it, str) else it for it in columns]
        self.rows: list[tuple[str, ...]] = []
        """The cells of each row."""
        self._sections: set[int] = set()

    def add_row(self, *cells: str) -> None:
        """Add a row: a text for each column. What a terminal may not print is escaped when it is printed."""
        self.rows.append(cells)

    def add_section(self) -> None:
        """Draw a line between the rows so far and the next."""
        self._sections.add(len(self.rows))

    def print(self, file: TextIO | None = None) -> None:
        """Print it to ``file`` (default: stdout): as a table if it fits, or else row by row.

        The width is that of the terminal, or ``COLUMNS``. If stdout is no terminal, the width has no limit.
        """
        print(self.text(shutil.get_terminal_size((_UNLIMITED, 0)).columns), end="", file=file)

    def text(self, width: int) -> str:
        """Return what is printed on a terminal of ``width`` columns."""
        console = Console(width=width, file=io.StringIO(), color_system=None)
        whole = console.measure(self._table(), options=console.options.update(width=_UNLIMITED)).maximum
        foldable = sum(
            max(0, self._width(place) - _FOLDED) for place, column in enumerate(self._columns) if column.fold
        )
        with console.capture() as captured:
            if whole - foldable <= width:
                console.print(self._table())
            else:
                self._print_row_by_row(console)
        lines = "\n".join(map(str.rstrip, captured.get().splitlines()))
        return lines.strip("\n") + "\n\n"

    def markdown(self) -> str:
        """Return it as a table of a Markdown page."""
        names = tuple(column.heading for column in self._columns)
        lines = [names, ("---",) * len(names), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def _table(self) -> RichTable:
        table = RichTable(
            title=self.title or None,
            title_justify="left",
            title_style="none",
            header_style="none",
            box=box.SIMPLE_HEAD,
            collapse_padding=True,
            pad_edge=False,
        )
        for place, column in enumerate(self._columns):
            table.add_column(
                _broken(column.heading, max(_HEADING, self._width(place))),
                justify="right" if column.right else "left",
                vertical="top",
                no_wrap=not column.fold,
                overflow="fold",
            )
        for number, row in enumerate(self.rows):
            if number in self._sections:
                table.add_section()
            table.add_row(*map(_plain, row))
        return table

    def _print_row_by_row(self, console: Console) -> None:
        if self.title:
            console.print(_plain(self.title))
        for row in self.rows:
            first, *cells = map(_plain, row)
            console.print(first)
            table = RichTable.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for column, cell in zip(self._columns[1:], cells, strict=True):
                table.add_row(f"  {column.heading}", cell)
            console.print(table)

    def _width(self, place: int) -> int:
        """Return the width of the widest cell of a column."""
        lines = (line for row in self.rows for line in shown_lines(row[place]).split("\n"))
        return max(map(cell_len, lines), default=0)


def _plain(cell: str) -> Text:
    """Return the cell as text in which Rich looks for no markup and no emoji."""
    return Text(shown_lines(cell))


def _broken(heading: str, width: int) -> Text:
    return Text("\n".join(textwrap.wrap(heading, width, break_long_words=False)))
