"""The command ``baozi doctor``. It imports what it needs when it runs."""

from typing import Annotated

import typer

from baozi.shown import to_json


def doctor(
    app: Annotated[
        str | None,
        typer.Option(
            "--app", "-A", help="The Celery app, as `celery -A` finds it: module, module:app, package."
        ),
    ] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", help="URL of the broker to look at. Default: that of the app.")
    ] = None,
    management: Annotated[
        str | None,
        typer.Option(
            "--management",
            help="URL of RabbitMQ's management API: http://[user:password@]host:port. Default: port 15672 of"
            " the broker's host.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is any finding.")] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Examine the app only; connect to nothing.")
    ] = False,
) -> None:
    """Say what an app and its broker can lose, repeat or stop; exit 1 if anything loses.

    It only reads. It asks running workers by Celery's inspect broadcast, and publishes nothing else.
    """
    from baozi.doctor import examination, report  # noqa: PLC0415  # only this command needs them

    result = examination.examine(app, broker, management, live=not static)
    if as_json:
        print(to_json(report.as_json(result)))
    else:
        print("\n".join(report.lines(result)))
    code = result.exit_code(strict)
    if code:
        raise typer.Exit(code)
