"""The help of the commands in the reader's language."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import typer

from baozi.columns import padded, width, wrapped
from baozi.language import translated

#: The most columns of the first of two columns.
_WIDEST_NAME = 30


def help_texts(command: Any) -> Iterator[str]:
    """Yield each text of the help of ``command`` and of its subcommands, as the catalogue has it."""
    for one in _tree(command):
        yield from _paragraphs(one.help or "")
        for parameter in _parameters(one):
            yield from _paragraphs(getattr(parameter, "help", None) or "")


def translate_help(command: Any) -> None:
    """Translate the help of ``command`` and of its subcommands."""
    for one in _tree(command):
        paragraphs = [translated(it) for it in _paragraphs(one.help or "")]
        if paragraphs:
            one.help, one.short_help = "\n\n".join(paragraphs), paragraphs[0]
        for parameter in _parameters(one):
            if getattr(parameter, "help", None):
                parameter.help = " ".join(map(translated, _paragraphs(parameter.help)))
        one.context_class = _HelpContext


def _tree(command: Any) -> list[Any]:
    below = getattr(command, "commands", {}).values()
    return [command, *(one for child in below for one in _tree(child))]


def _parameters(command: Any) -> list[Any]:
    # Typer keeps the option --help, and makes it when it is first asked for.
    return list(command.get_params(command.context_class(command)))


def _paragraphs(text: str) -> list[str]:
    return [" ".join(it.split()) for it in inspect.cleandoc(text).partition("\f")[0].split("\n\n") if it]


class _HelpPage(typer.Context.formatter_class):  # type: ignore[valid-type,misc]  # it has no public name
    """Typer's page of help, whose lines are measured in columns."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, translated(prefix or "Usage: "))

    def write_heading(self, heading: str) -> None:
        self._write_lines([" " * self.current_indent + translated("{heading}:", heading=heading)])

    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        for number, paragraph in enumerate(_paragraphs(text)):
            if number:
                self.write("\n")
            self._write_lines(wrapped(indent + paragraph, self.width, indent))

    def write_dl(
        self, rows: Sequence[tuple[str, str]], col_max: int = _WIDEST_NAME, col_spacing: int = 2
    ) -> None:
        indent = " " * self.current_indent
        column = min(max(width(first) for first, _ in rows), col_max) + col_spacing
        for first, second in rows:
            lines = wrapped(second, self.width - column - self.current_indent)
            if width(first) > column - col_spacing:
                self._write_lines([indent + first])
            else:
                self._write_lines([indent + padded(first, column) + lines.pop(0)])
            self._write_lines([indent + " " * column + line for line in lines])

    def _write_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(f"{line.rstrip()}\n")


class _HelpContext(typer.Context):
    formatter_class = _HelpPage
