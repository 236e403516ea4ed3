"""``python -m side_by_side.lesson``: records the runs of the lesson and writes its page."""

import sys
from typing import Annotated

import typer

from baozi.errors import BaoziError, UsageError
from side_by_side.lesson.lesson_page import PAGE, lesson_in, page_of
from side_by_side.lesson.recorded import RecordedLesson
from side_by_side.lesson.recorder import record
from side_by_side.lesson.scenarios import FAILURES, Scene, scenes


def main(
    failures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FAILURE]...", help="Record only these again, and keep the other runs of the page."
        ),
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Record nothing: make the page again from its own recording.")
    ] = False,
) -> None:
    """Record the runs of the lesson, each in its own processes, and write docs/lesson/index.html."""
    try:
        lesson = lesson_in(PAGE.read_text(encoding="utf-8")) if page_only else _recorded(failures)
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page_of(lesson), encoding="utf-8")
    except BaoziError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    print(f"{PAGE.name}: {len(lesson.runs)} runs, {PAGE.stat().st_size // 1000} kB")


def _recorded(failures: list[str] | None) -> RecordedLesson:
    known = [failure.name for failure in FAILURES]
    for name in failures or []:
        if name not in known:
            raise UsageError(
                "There is no failure {name!r}; there are {names}.", name=name, names=", ".join(known)
            )
    lesson = record((one for one in scenes() if one.failure.name in (failures or known)), _print_title)
    if not failures:
        return lesson
    kept = [run for run in lesson_in(PAGE.read_text(encoding="utf-8")).runs if run.failure not in failures]
    runs = sorted([*kept, *lesson.runs], key=lambda run: known.index(run.failure))
    return lesson.model_copy(update={"runs": runs})


def _print_title(scene: Scene) -> None:
    print(scene.title, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
