"""``python -m local_mp`` lists the lessons, ``python -m local_mp NAME`` runs one. Python is enough."""

import argparse
import io
import signal
import sys
from typing import NoReturn

from local_mp import lessons


class _Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{message[:1].upper()}{message[1:]}. See --help.\n")


def factor(text: str) -> float:
    """Return ``text`` as a number from 0 to 1000.

    Raises:
        ValueError: it is not one.
    """
    number = float(text)
    if not 0 <= number <= 1000:
        raise ValueError(text)
    return number


def main() -> int:
    """Run the command; return its exit code."""
    parser = _Parser(prog="python -m local_mp", description="课程的程序。 The course's programs.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the lesson to run; without it, list them")
    parser.add_argument("--pace", type=factor, default=1.0, help="factor on the course's seconds, up to 1000")
    arguments = parser.parse_args()
    if arguments.name is None:
        for name in lessons.LESSONS:
            chinese, english = lessons.titles(name)
            print(f"{name:16}{chinese}\n{'':16}{english}")
        return 0
    if arguments.name not in lessons.LESSONS:
        parser.exit(2, f"There is no {arguments.name!r} here; there are: {', '.join(lessons.LESSONS)}.\n")
    try:
        lessons.run(arguments.name, arguments.pace)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A letter that the terminal's encoding does not have is written out.
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
