"""The language of what the command line prints: English, or the reader's, from a gettext catalogue.

A sentence is written in English where it arises, as a :class:`Sentence`. JSON and logs have the English
text. Only what a command prints for its reader goes through :func:`translated`. CONTRIBUTING.md says how to
change a sentence.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self

#: The option that names the language, in every command.
OPTION = "--lang"
#: The folder of the catalogues, and their name.
FOLDER, DOMAIN = Path(__file__).with_name("locale"), "baozi"
#: The languages of the command line. English needs no catalogue.
ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
_OWN_NAME = {ENGLISH: "English", CHINESE: "中文"}

#: The catalogue of the reader's language; None for English.
_catalogue: Any = None


class Sentence(str):
    """An English text that can be printed in the reader's language, because its fields are known."""

    template: str
    """The text with its fields in braces, as in the catalogue."""
    fields: dict[str, object]

    def __new__(cls, template: str, **fields: object) -> Self:
        """Fill in the fields.

        Args:
            template: a text with fields in braces, as ``str.format`` has it. Without fields, braces are text.
            fields: their values. A sentence, an error or a member of a ``StrEnum`` is translated with the
                whole.
        """
        made = super().__new__(cls, template.format(**fields) if fields else template)
        made.template, made.fields = template, fields
        return made


def listed(texts: Iterable[str]) -> Sentence:
    """Return the texts with a comma between two of them. Those that are sentences are translated with it."""
    first, *rest = texts
    whole = first if isinstance(first, Sentence) else Sentence("{text}", text=first)
    for text in rest:
        whole = Sentence("{list}, {text}", list=whole, text=text)
    return whole


def translated(text: str, **fields: object) -> str:
    """Return a text in the reader's language, or in English if the catalogue does not have it.

    Args:
        text: a sentence, or a template.
        fields: the fields of a template.
    """
    return _said(text if isinstance(text, Sentence) else Sentence(text, **fields), _catalogue)


def in_each_language(text: str) -> dict[str, str]:
    """Return a text in each language, by the language's name, for a page that can be switched.

    Args:
        text: a sentence, or a text without fields.
    """
    sentence = text if isinstance(text, Sentence) else Sentence(text)
    return {ENGLISH: str(sentence), CHINESE: _said(sentence, _loaded(CHINESE))}


def _said(sentence: Sentence, catalogue: Any) -> str:
    if catalogue is None or not sentence.template:
        return str(sentence)
    template: str = catalogue.gettext(sentence.template)
    if not sentence.fields:
        return template
    return template.format(**{name: _field(value, catalogue) for name, value in sentence.fields.items()})


def _field(value: object, catalogue: Any) -> object:
    value = getattr(value, "sentence", value)  # an error has one
    if isinstance(value, StrEnum):
        value = Sentence(value)
    return _said(value, catalogue) if isinstance(value, Sentence) else value


def readers_language(arguments: Sequence[str]) -> str:
    """Return the language that the command line's arguments or the locale ask for, as gettext does.

    Args:
        arguments: those of the command.
    """
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if argument == "--":
            break
        if name == OPTION:
            wanted = value or "".join(arguments[number + 1 : number + 2])
            if wanted in LANGUAGES:
                return wanted
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or "C"
    if locale.partition(".")[0] in {"C", "POSIX"}:
        return ENGLISH
    preferred = (os.environ.get("LANGUAGE") or locale).split(":")
    known = (re.split("[_.@]", one)[0] for one in preferred)
    return next((one for one in known if one in LANGUAGES), ENGLISH)


def speak_to_reader(arguments: Sequence[str]) -> None:
    """Use the reader's language in this process, if stdout and stderr have its characters.

    Args:
        arguments: those of the command.
    """
    language = readers_language(arguments)
    try:
        for out in (sys.stdout, sys.stderr):
            _OWN_NAME[language].encode(getattr(out, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        language = ENGLISH
    speak(language)


def speaks_english() -> bool:
    """Return whether what is printed needs no translation."""
    return _catalogue is None


def speak(language: str) -> None:
    """Let :func:`translated`, and Typer's help, use this language from now on, in this process."""
    global _catalogue  # noqa: PLW0603  # a process prints in one language, that of its reader
    if language == ENGLISH:
        _catalogue = None
        return
    if _catalogue is not None:
        return
    import gettext  # noqa: PLC0415  # English does not need it

    _catalogue = _loaded(language)
    # Typer asks the current domain of gettext, which takes the language from the environment.
    gettext.bindtextdomain(DOMAIN, str(FOLDER))
    gettext.textdomain(DOMAIN)
    os.environ["LANGUAGE"] = language


@cache
def _loaded(language: str) -> Any:
    import gettext  # noqa: PLC0415  # English does not need it

    return gettext.translation(DOMAIN, FOLDER, [language])
