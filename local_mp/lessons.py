"""The lessons by name, in the course's order, and how one is run as a command."""

from types import ModuleType

from local_mp import (
    file_lock,
    joinable_queue,
    manager_queue,
    pipe_lock,
    queue_basics,
    sentinel_queue,
    tickets,
)
from local_mp.guarded import guarded

LESSONS: dict[str, ModuleType] = {
    "tickets": tickets,
    "file-lock": file_lock,
    "pipe-lock": pipe_lock,
    "queue-basics": queue_basics,
    "queue": sentinel_queue,
    "joinable-queue": joinable_queue,
    "manager-queue": manager_queue,
}

#: Seconds after which a lesson at the course's pace is ended.
DEADLINE = 120


def run(name: str, pace: float) -> None:
    """Run the lesson ``name`` at ``pace``, a factor on the course's seconds.

    Raises:
        TimeoutError: it did not end by its deadline.
    """
    with guarded(LESSONS.values(), DEADLINE * max(1.0, pace)):
        LESSONS[name].main(pace)


def titles(name: str) -> tuple[str, str]:
    """Return the Chinese and the English title of the lesson ``name``, without its number and its name."""
    lines = (LESSONS[name].__doc__ or "").splitlines()
    chinese, english = (
        next(line.partition(mark)[2] for line in lines if mark in line) for mark in ("``：", "``: ")
    )
    return chinese.replace("``", ""), english.replace("``", "")
