"""``python -m producers``, the same as ``baozi produce``."""

from baozi import command_line

if __name__ == "__main__":
    command_line.main("producers.command:app")
