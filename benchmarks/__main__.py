"""``python -m benchmarks`` runs the benchmarks."""

from baozi import command_line

if __name__ == "__main__":
    command_line.main("benchmarks.command:app")
