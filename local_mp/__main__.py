"""``python -m local_mp``."""

from baozi import command_line

if __name__ == "__main__":
    command_line.main("local_mp.command:app")
