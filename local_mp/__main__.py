"""``python -m local_mp``."""

from baozi import command_line
from local_mp.command import app

if __name__ == "__main__":
    command_line.run(app)
