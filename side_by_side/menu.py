"""How a kitchen works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Menu:
    """How a kitchen works."""

    tray: int = 1
    """Baozi that a pool process may get at once."""
    workers: tuple[str, ...] = ("小明", "小红")
    processes: int = 2
    """Of each worker's pool."""
    producers: tuple[str, ...] = ("alex", "peiqi", "egon")
    make_seconds: float = 0.01
    """Between two baozi of a producer."""
    eat_seconds: float = 0.002
    away_seconds: float = 10
    """How long a broker is away, where that is the fault."""
    soft_shutdown_seconds: float = 3
    """That a stopped worker may go on."""

    @property
    def held(self) -> int:
        """Messages that a worker may hold: what it may fetch ahead (tasks/config.py)."""
        return self.processes * (1 if self.tray == 1 else 2 * self.tray)
