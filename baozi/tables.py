"""Tables on a terminal, whose cells are plain text: Rich must not find markup or emoji in them."""

from rich.table import Table as RichTable
from rich.text import Text

from baozi.shown import shown_lines


class Table(RichTable):
    """Rich's table, with cells of plain text."""

    def add_row(self, *cells: str, end_section: bool = False) -> None:  # type: ignore[override]  # Rich takes more options, which no table here needs
        """Add a row.

        Args:
            cells: a text for each column; what a terminal may not print is written out.
            end_section: whether a line is drawn below.
        """
        super().add_row(*(Text(shown_lines(cell)) for cell in cells), end_section=end_section)
