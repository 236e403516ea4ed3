"""The client in C: ``publish`` or ``eat``. This module only replaces its process by the compiled program."""

import os
import sys

from benchmarks.bench import Bench
from benchmarks.publishing import parser


def main() -> None:
    """Run the compiled program in this process."""
    bench = Bench.here()
    arguments = [sys.argv[1]]
    if sys.argv[1] == "publish":
        options = parser().parse_args(sys.argv[2:])
        arguments += [str(options.seconds), str(options.count)]
    # In the environment, because every user can read command lines, and the URL has the password.
    environment = {"BENCH_URL": bench.url}
    os.execve(bench.c_client, [bench.c_client, *arguments], environment)  # noqa: S606  # our own program


if __name__ == "__main__":
    main()
