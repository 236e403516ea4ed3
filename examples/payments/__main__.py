"""``python -m examples.payments``."""

from baozi import command_line

if __name__ == "__main__":
    command_line.main("examples.payments.command:app")
