"""The commands ``baozi broker start``, ``status``, ``stop`` and ``env``, for the broker of one machine."""

import json
import shlex
from typing import Annotated

import typer

from baozi.broker.address import Broker
from baozi.broker.choice import find, start, stop
from baozi.broker.readiness import check_broker_answers
from baozi.language import Sentence, translated
from baozi.lines import say
from baozi.settings import settings
from baozi.shown import shown, to_json

app = typer.Typer(no_args_is_help=True, help="A broker for one machine: start it, find it, stop it.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: Seconds within which a running broker answers.
_ANSWER = 5


@app.command("start")
def start_command(as_json: Json = False) -> None:
    """Find a broker, or start one: a private RabbitMQ node, or else a container."""
    _show(start(), as_json)


@app.command("status")
def status_command(as_json: Json = False) -> None:
    """Say which broker there is and that it answers; exit with 3 if there is none or it does not."""
    broker = find()
    check_broker_answers(broker.url, _ANSWER)
    _show(broker, as_json)


@app.command("stop")
def stop_command(as_json: Json = False) -> None:
    """Stop the broker that `start` started; its queues stay on disk for the next start."""
    stopped = stop()
    nothing, done = (
        Sentence("There was no broker to stop that `baozi broker start` had started."),
        Sentence("Stopped."),
    )
    said = translated(done if stopped else nothing)
    say(json.dumps({"stopped": stopped}) if as_json else said)


@app.command("env")
def env_command(as_json: Json = False) -> None:
    """Print the broker's address with its password, for: eval "$(baozi broker env)"."""
    url = find().url
    print(json.dumps({"BAOZI_BROKER_URL": url}) if as_json else f"export BAOZI_BROKER_URL={shlex.quote(url)}")


def _show(broker: Broker, as_json: bool) -> None:
    facts = {
        "kind": broker.kind,
        "url": broker.safe_url,
        "management_url": broker.management_url,
        "version": broker.version,
        "node": broker.node,
        "why": broker.why,
        "home": str(settings().home.absolute()),
        "home_reason": settings().home_reason,
    }
    if as_json:
        print(to_json(facts))
        return
    del facts["home_reason"]
    facts["home"] = f"{facts['home']} ({translated(settings().home_reason)})"
    facts["why"] = translated(broker.why)
    for name, fact in facts.items():
        if fact is not None:
            print(f"{name.removesuffix('_url'):>10}  {shown(fact)}")
