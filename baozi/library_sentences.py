"""The sentences of Typer and Pydantic that a command prints, for the catalogue.

These libraries build them in English. The fields are found again in the finished text.
"""

import re
from functools import cache

from baozi.language import Sentence

#: What Typer itself asks gettext for, in its pages of help.
HELP = (
    Sentence("Arguments"),
    Sentence("Options"),
    Sentence("Commands"),
    Sentence("Usage: "),
    Sentence("required"),
    Sentence("default: {default}"),
)
#: What Typer says of wrong arguments. The first whose text fits counts.
_USAGE = (
    Sentence("No such command {name}. Did you mean {others}?"),
    Sentence("No such command {name}."),
    Sentence("No such option: {name} (Possible options: {others})."),
    Sentence("No such option: {name}."),
    Sentence("Missing command."),
    Sentence("Missing argument {name}."),
    Sentence("Missing option {name}."),
    Sentence("Option {name} requires an argument."),
    Sentence("Option {name} does not take a value."),
    Sentence("Got unexpected extra argument(s) ({arguments})."),
    Sentence("Invalid value for {name}: {problem}."),
)
#: What Typer and Pydantic say of a value, also of that of a setting.
_VALUES = (
    Sentence("{value} is not one of {choices}"),
    Sentence("path {path} does not exist"),
    Sentence("file {path} does not exist"),
    Sentence("dir {path} does not exist"),
    Sentence("Input should be a valid integer, unable to parse string as an integer"),
    Sentence("Input should be a valid number, unable to parse string as a number"),
    Sentence("Input should be a finite number"),
    Sentence("Input should be a valid boolean, unable to interpret input"),
    Sentence("Input should be greater than or equal to {limit}"),
    Sentence("Input should be less than or equal to {limit}"),
    Sentence("Input should be greater than {limit}"),
    Sentence("Input should be less than {limit}"),
)


def recognized(text: str) -> Sentence:
    """Return a text of Typer or Pydantic as a sentence, which can be translated if it is known."""
    for known in (*_USAGE, *_VALUES):
        found = _pattern(known.template).fullmatch(text)
        if found:
            fields: dict[str, object] = dict(found.groupdict())
            if "problem" in found.groupdict():
                fields["problem"] = recognized(found["problem"].rstrip("."))
            return Sentence(known.template, **fields)
    return Sentence(text)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(template)), re.DOTALL)
