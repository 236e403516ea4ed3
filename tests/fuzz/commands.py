"""The dead-letter commands and the audit, on what a worker has left of hostile messages."""

import json
import time
from subprocess import CompletedProcess, TimeoutExpired

from tests.fuzz.worker import Fault, Worker
from tests.integration.place import Place

#: How many letters are shown.
_SHOWN = 40


def after(worker: Worker, place: Place) -> list[Fault]:
    """Run the commands on all dead letters of ``worker``'s last batch; in the end there are none left."""
    letters = worker.client.count("baozi.dead")
    faults: list[Fault] = []
    said = ""

    def run(*arguments: str) -> CompletedProcess[str]:
        try:
            done = place.run(*arguments, **worker.settings)
        except TimeoutExpired:
            faults.append(Fault(f"`baozi {' '.join(arguments)[:60]}` does not end"))
            return CompletedProcess(arguments, -1, "", "")
        if done.returncode or "Traceback" in done.stderr:
            words = " ".join(arguments)[:60]
            said = done.stderr.strip()[-300:]
            faults.append(Fault(f"`baozi {words}` ends with {done.returncode}: {said}"))
        return done

    run("dead", "list")
    listed = [json.loads(line) for line in run("dead", "list", "--json").stdout.splitlines()]
    if len(listed) != letters and not faults:
        faults.append(Fault(f"`baozi dead list` lists {len(listed)} letters of {letters}"))
    ids = sorted({letter["id"] for letter in listed})
    if ids:
        run("dead", "show", *ids[:_SHOWN])
        shown = run("dead", "show", *ids[:_SHOWN], "--json").stdout.splitlines()
        if any("id" not in json.loads(line) for line in shown):
            faults.append(Fault("`baozi dead show` shows a letter without its id"))
    run("audit", worker.ordered, "--wait", "20", "--json")
    if ids and not faults:
        replayed = json.loads(run("dead", "replay", "--all", "--json").stdout or "{}")
        if replayed.get("replayed") != letters:
            faults.append(Fault(f"`baozi dead replay --all` says {replayed} of {letters} letters"))
        faults += worker.settle_again()
        ids = sorted({json.loads(line)["id"] for line in run("dead", "list", "--json").stdout.splitlines()})
        if ids:
            said = run("dead", "drop", "--yes", *ids).stdout.strip()
    # What is dropped is gone from the queue a moment later.
    deadline = time.monotonic() + 10
    while (left := worker.client.count("baozi.dead")) and not faults and time.monotonic() < deadline:
        time.sleep(0.1)
    if left and not faults:
        reasons = worker.reasons()
        faults.append(Fault(f"`baozi dead drop` said {said!r} of {len(ids)} ids; {left} are left: {reasons}"))
    return faults
