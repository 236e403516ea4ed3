"""The command line: ``baozi`` and ``python -m cli``."""

from typing import Any

from baozi import command_line


def main() -> None:
    """Run the command line, and exit."""
    command_line.main("side_by_side.commands:app")


def __getattr__(name: str) -> Any:
    """Load ``app``, the Typer app, when it is asked for: a command handles signals before that."""
    if name == "app":
        from side_by_side.commands import app  # noqa: PLC0415

        return app
    raise AttributeError(name)


if __name__ == "__main__":
    main()
