"""``python -m producers``: what ``baozi produce`` does."""

from baozi import command_line

if __name__ == "__main__":
    command_line.main("producers.command:app")
