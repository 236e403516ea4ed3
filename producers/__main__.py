"""``python -m producers``: what ``baozi produce`` does."""

from producers.command import main

if __name__ == "__main__":
    main()
