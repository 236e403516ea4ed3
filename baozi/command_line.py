"""Runs a command line program. If it fails, it prints one sentence on stderr and exits with a named code.

This module imports only what every command needs. :func:`main` loads the rest after it has set the signal
handlers.
"""

import inspect
import io
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from baozi.errors import BaoziError, ExitCode
from baozi.language import OPTION as LANGUAGE
from baozi.language import Sentence, speak_to_reader, speaks_english, translated
from baozi.shown import shown, shown_lines
from baozi.stop import ENDING, write_to_stderr

if TYPE_CHECKING:
    import typer

#: Exit status when the reader of the output has ended, as for a program that SIGPIPE (13) ends.
_NO_READER = 128 + 13

#: The option that prints the traceback of a bug, in every command.
_DEBUG = "--debug"

#: The most columns of a help text, if the terminal has as many.
_WIDEST_HELP = 120


def main(where: str) -> NoReturn:
    """Load the Typer app at ``where`` (``package.module:name``), run it as :func:`run` does, and exit.

    At ``where`` there may also be a function that returns the app.

    Loading takes up to a second. A signal in that second ends the process at once, without a traceback.
    """
    for number in ENDING:
        signal.signal(number, _end_at_once)
    speak_to_reader(sys.argv[1:])
    module, _, name = where.partition(":")
    try:
        found = getattr(import_module(module), name)
        app = found() if inspect.isfunction(found) else found
    except BaseException as error:
        sys.exit(failed(error))
    run(app)


def _end_at_once(_number: int, _frame: object) -> NoReturn:
    write_to_stderr(f"\n{translated('Stopped: nothing was started yet.')}\n")
    os._exit(ExitCode.INTERRUPTED)


def run(app: "typer.Typer") -> NoReturn:
    """Run ``app`` with the arguments of this process, and exit.

    SIGTERM interrupts like Ctrl-C, so that the command stops what it has started.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding does not have is written out, as stderr does it.
        sys.stdout.reconfigure(errors="backslashreplace")
    speak_to_reader(sys.argv[1:])
    code = _exit_code(app)
    # What is left to do is to exit: a signal does the same, at once.
    for number in ENDING:
        signal.signal(number, lambda _number, _frame: os._exit(code))
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        code = code or _report_os_error(error)
        # Python would flush again at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _exit_code(app: "typer.Typer") -> int:
    import typer  # noqa: PLC0415  # takes longer than all that this module needs

    try:
        command = command_of(app)
        for number in ENDING:
            signal.signal(number, signal.default_int_handler)
        return int(command(standalone_mode=False) or ExitCode.OK)
    except typer.TyperException as error:
        message = error.format_message()
        # Of several lines: the help, for a group of commands without one.
        print(shown_lines(message if "\n" in message else _usage(message)), file=sys.stderr)
        return ExitCode.USAGE
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except SystemExit as end:
        # Typer makes of a broken pipe an exit with 1, which would be a loss.
        if isinstance(end.__context__, BrokenPipeError):
            return _report_os_error(end.__context__)
        return end.code if isinstance(end.code, int) and end.code != ExitCode.LOSS else failed(end)
    except BaseException as error:
        return failed(error)


def _usage(message: str) -> str:
    """Return what Typer says of wrong arguments, in the reader's language, and what helps."""
    from baozi.library_sentences import recognized  # noqa: PLC0415  # only wrong arguments need it

    # Pydantic puts two words before the text of a validator.
    message = message.replace(": Value error, ", ": ")
    ended = message if message.endswith("?") else f"{message.rstrip('.')}."
    return translated("{problem} See --help.", problem=recognized(ended))


def failed(error: BaseException) -> int:
    """Print the error that ended a command, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if _debugging():
        traceback.print_exception(error)
    if isinstance(error, BaoziError):
        print(shown_lines(translated(error.sentence)), file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        return _report_os_error(error)
    # Not the error's own text, which may hold a password.
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    place: str = ""
    if last:
        file = Path(last.filename).name
        place = Sentence(
            " in {function}, line {line} of {file}", function=last.name, line=last.lineno, file=file
        )
    again = "" if _debugging() else Sentence(", run again with --debug for the traceback")
    print(
        translated(
            "Unexpected {error}{place}: this is a bug{again}.",
            error=type(error).__name__,
            place=place,
            again=again,
        ),
        file=sys.stderr,
    )
    return ExitCode.BUG


def _debugging() -> bool:
    arguments = sys.argv[1:]
    if _DEBUG in (arguments[: arguments.index("--")] if "--" in arguments else arguments):
        return True
    with suppress(Exception):  # whatever is wrong with the settings, another error says
        from baozi.settings import settings  # noqa: PLC0415  # loads Pydantic

        return settings().debug
    return False


def command_of(app: "typer.Typer") -> Any:
    """Return the command of ``app`` with the options of every command, and help in the reader's language."""
    import typer  # noqa: PLC0415  # takes longer than all that this module needs

    command = _with_whole_help(_with_options(typer.main.get_command(app)))
    if not speaks_english():
        from baozi.help_pages import translate_help  # noqa: PLC0415  # English does not need it

        translate_help(command)
    return command


def _with_options(command: Any) -> Any:
    """Add the options that every command has to ``command`` and its subcommands."""
    import typer  # noqa: PLC0415  # takes longer than all that this module needs

    def example(
        language: Literal["en", "zh"] | None = typer.Option(
            None, LANGUAGE, help="Language of what is printed. Default: that of the locale."
        ),
        debug: bool = typer.Option(False, _DEBUG, help="Print the traceback when a command fails."),
    ) -> None:
        """Have the options that are wanted. What reads them looks at the arguments of the process."""

    maker = typer.Typer(add_completion=False)
    maker.command()(example)
    options = typer.main.get_command(maker).params
    for option in options:
        option.expose_value = False
    for one in _tree(command):
        one.params.extend(options)
    return command


def _with_whole_help(command: Any) -> Any:
    """Make the help of ``command`` list its subcommands with their whole first paragraph.

    Click would cut each description to one line of 80 columns.
    """
    command.context_settings.setdefault("max_content_width", _WIDEST_HELP)
    for one in _tree(command):
        if one.help and not one.short_help:
            one.short_help = " ".join(inspect.cleandoc(one.help).split("\n\n")[0].split())
    return command


def _tree(command: Any) -> list[Any]:
    below = getattr(command, "commands", {}).values()
    return [command, *(one for child in below for one in _tree(child))]


def _report_os_error(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    file = f": {shown(error.filename)}" if error.filename else ""
    problem = shown(error.strerror or error)
    print(translated("The system refuses: {problem}{file}.", problem=problem, file=file), file=sys.stderr)
    return ExitCode.USAGE
