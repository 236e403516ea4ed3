"""``baozi`` and ``python -m baozi``."""

from baozi import command_line


def main() -> None:
    """Run the command line, and exit."""
    command_line.main("baozi.commands:app")


if __name__ == "__main__":
    main()
