"""The long run: ``python -m tests.fuzz --seconds 3600 --seed 1``.

It sends batches to one target after the other until the time is over. Each message that fails is found, made
smaller, printed as a Python literal, and written to a file for ``tests/fuzz/corpus``. The last line is the
result as JSON. Exit codes: 0 all is well, 1 a target failed, 2 wrong usage or no RabbitMQ on this machine.
"""

import argparse
import json
import random
import signal
import sys
import time
from base64 import b64encode
from collections import Counter
from itertools import count, cycle
from pathlib import Path

from baozi.broker import private_node
from tests.fuzz import corpus
from tests.fuzz.messages import Message
from tests.fuzz.running import TARGETS, Failure, corpus_of, failures, made_for, say, shrunk, take, target
from tests.fuzz.worker import Fault
from tests.integration.rabbitmq import Node, private_rabbitmq

#: Messages of a batch, and batches of one target before the next one has its turn.
BATCH, BATCHES = 60, 3
#: Seconds in which a failing message is made smaller.
_SHRINKING = 90
#: Bytes of a message's frames that are printed.
_PRINTED = 4_000


def main() -> int:
    """Run as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes workers and remote_mp.")
    parser.add_argument("--seconds", type=float, default=600, help="how long; default 600")
    parser.add_argument("--seed", type=int, default=None, help="what to send; default: another each time")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all, in turn")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for what fails")
    chosen = parser.parse_args()
    # As Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    program = private_node.server()
    if program is None:
        print("This machine has no rabbitmq-server. Install it, then try again.", file=sys.stderr)
        return 2
    with private_rabbitmq(program) as node:
        return _run(node, chosen.target or TARGETS, seed, chosen.seconds, chosen.keep)


def _run(node: Node, targets: tuple[str, ...] | list[str], seed: int, seconds: float, keep: Path) -> int:
    started = time.monotonic()
    accepted: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    found: list[Failure] = []
    batches = count()
    say(f"seed {seed}, {seconds:g} s, targets: {', '.join(targets)}")
    for name in cycle(targets):
        if time.monotonic() - started > seconds:
            break
        with target(node, name) as on:
            for _ in range(BATCHES):
                number = next(batches)
                batch = made_for(name, seed * 1_000_003 + number, BATCH)
                begun = time.monotonic()
                faults = take(on, batch, with_commands=True)
                say(
                    f"{time.monotonic() - started:7.1f} s  batch {number:5} {name:9} {len(batch)} messages in"
                    f" {time.monotonic() - begun:5.1f} s, {len(faults)} faults, {len(found)} failures"
                )
                if faults or time.monotonic() - started > seconds:
                    break
            accepted += on.accepted
            refused += on.refused
        if faults:
            found += _searched(node, name, batch, faults, keep)
    result = {
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "batches": next(batches),
        "accepted": accepted.total(),
        "refused_by_the_broker": refused.total(),
        "accepted_by_kind": dict(accepted.most_common()),
        "failures": len(found),
    }
    say(json.dumps(result))
    return 1 if found else 0


def _searched(node: Node, name: str, batch: list[Message], faults: list[Fault], keep: Path) -> list[Failure]:
    """Find which messages of a batch fail, print them and keep them."""
    for fault in faults[:10]:
        say(f"  {fault.what}")
    numbered = {fault.number for fault in faults}
    say(f"  looking for the message among {len(batch)}; faults with {len(numbered)} numbers")
    folder = corpus_of(name).name
    with_commands = any("`baozi" in fault.what for fault in faults)
    found = []
    for failure in failures(node, name, batch, with_commands):
        small = shrunk(node, failure, with_commands, _SHRINKING)
        path = corpus.keep(small.message, "\n".join(fault.what for fault in small.faults), keep / folder)
        frames = b64encode(small.message.head + small.message.wire_body)
        say(f"FAILED {small}kept in {path}")
        if len(frames) <= _PRINTED:
            say(f"content header and body, base64: {frames.decode()}")
        found.append(small)
    if not found:
        # Each alone is well: the batch as a whole is the failure.
        for message in batch:
            corpus.keep(message, f"fails in a batch only: {faults[0].what}", keep / folder / "together")
        say(f"FAILED together: {faults[0].what}; the batch is in {keep / folder / 'together'}")
        found.append(Failure(name, batch[0], faults))
    return found


if __name__ == "__main__":
    sys.exit(main())
