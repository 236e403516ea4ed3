"""A comparison such as a true one leaves: eight transports, four faults, one verdict that nobody expected."""

import random
from itertools import count

from baozi.workload import Workload
from side_by_side.comparison_results import (
    ComparisonResults,
    Counts,
    Latency,
    Moment,
    NotRun,
    Run,
    RunKind,
    Usage,
    Verdict,
)
from side_by_side.results import Machine

WORKLOAD = Workload(per_producer=2000, make_seconds=0, eat_seconds=0.001, deadline=30)
OFFERED = 200.0
REPEAT = 5

MEANS = {
    "file-lock": "the line is in the file, and the lock was released",
    "pipe-lock": "send() returned: the bytes are in the pipe's buffer, in the kernel's memory",
    "queue": "put() returned: it is in the producer's own buffer, maybe not written by its feeder thread",
    "joinable-queue": "put() returned, as for queue",
    "manager-queue": "the Manager's process answered: it is in that process's memory",
    "rabbitmq-queue": "the broker confirmed it: it is in a quorum queue, on the disk",
    "celery": "the broker confirmed it: it is in a quorum queue, on the disk",
    "celery-trays": "the broker confirmed the tray: it is in a quorum queue, on the disk",
}
#: Accepted per second, the latency's median, and how wide the runs scatter.
SPEED = {
    "file-lock": (940, 0.0021, 0.06),
    "pipe-lock": (61_000, 0.00021, 0.04),
    "queue": (83_000, 0.00038, 0.05),
    "joinable-queue": (71_500, 0.00041, 0.05),
    "manager-queue": (5_600, 0.0011, 0.22),
    "rabbitmq-queue": (2_450, 0.0046, 0.07),
    "celery": (1_180, 0.0083, 0.06),
    "celery-trays": (9_900, 0.0129, 0.08),
}
S, L, D, W = Verdict.SOUND, Verdict.LOST, Verdict.DUPLICATED, Verdict.WEDGED
FAULTS = ("kill-busy-consumer", "kill-idle-consumer", "kill-producer", "kill-store")
EXPECTED = {
    "file-lock": (L, S, S, S),
    "pipe-lock": (L, W, S, S),
    "queue": (L, W, L, S),
    "joinable-queue": (W, W, W, S),
    "manager-queue": (L, L, S, W),
    "rabbitmq-queue": (S, S, S, S),
    "celery": (S, S, S, S),
    "celery-trays": (S, S, S, S),
}
#: Where a fault cannot be injected, and why.
NOT_RUN = [(name, "kill-store") for name in ("file-lock", "pipe-lock", "queue", "joinable-queue")]
NO_STORE = "No process stores the baozi."
#: What came otherwise than expected.
SURPRISES = {("celery-trays", "kill-busy-consumer"): D, ("pipe-lock", "kill-idle-consumer"): S}


def sample_results() -> ComparisonResults:
    chance = random.Random(7)
    runs = [
        *(_flat_out(name, n, chance) for name in MEANS for n in range(REPEAT)),
        *(_fixed_rate(name, n, chance) for name in MEANS for n in range(REPEAT)),
        *(_fault(name, fault, chance) for name in MEANS for fault in FAULTS if (name, fault) not in NOT_RUN),
    ]
    order = list(range(len(runs)))
    chance.shuffle(order)
    return ComparisonResults(
        made_at=1_795_420_800.0,
        seed=20_261_123,
        finished=True,
        machine=Machine(
            system="Linux 6.8.0-45-generic x86_64",
            processor="AMD EPYC 7B13 64-Core Processor",
            cores=8,
            memory=33_650_761_728,
            python="3.11.9",
            versions={"celery": "5.7.0", "kombu": "5.7.0", "RabbitMQ": "3.10.8", "SQLAlchemy": "2.1.9"},
        ),
        workload=WORKLOAD,
        offered_per_second=OFFERED,
        repeat=REPEAT,
        accepted_means=MEANS,
        runs=[run.model_copy(update={"order": place}) for run, place in zip(runs, order, strict=True)],
        not_run=[NotRun(transport=name, fault=fault, reason=NO_STORE) for name, fault in NOT_RUN],
    )


def a_run(transport: str = "queue", measure: RunKind = RunKind.FLAT_OUT, **fields: object) -> Run:
    """A sound run; ``fields`` are what is otherwise."""
    total = WORKLOAD.total
    sound = Counts(
        attempted=total, accepted=total, eaten=total, lost=0, duplicated=0, recovered=0, unexpected=0
    )
    plain: dict[str, object] = {
        "transport": transport,
        "measure": measure,
        "repetition": 0,
        "order": 0,
        "counts": sound,
        "verdict": S,
        "expected": S,
        "seconds": 1.5,
        "accepted_per_second": 1000.0,
        "eaten_per_second": 900.0,
    }
    return Run.model_validate(plain | fields)


def _flat_out(transport: str, repetition: int, chance: random.Random) -> Run:
    speed, _, scatter = SPEED[transport]
    accepted = speed * chance.gauss(1, scatter)
    eaten = min(accepted, 3_900) * chance.uniform(0.86, 0.98)
    seconds = WORKLOAD.total / eaten
    kinds = ("producer", "consumer", "store") if "m" in transport or "celery" in transport else ("producer",)
    return a_run(
        transport,
        repetition=repetition,
        seconds=seconds,
        accepted_per_second=accepted,
        eaten_per_second=eaten,
        usage=Usage(
            cpu_seconds_per_10000=9_000 / speed * chance.uniform(0.9, 1.1),
            peak_memory={role: chance.randrange(14_000_000, 140_000_000) for role in kinds},
        ),
        timeline=_timeline(seconds, accepted, eaten, WORKLOAD.total),
        eaten_by={"小明": WORKLOAD.total // 2 + 61, "小红": WORKLOAD.total // 2 - 61}
        if transport not in {"manager-queue", "celery"}
        else {"小明@north": WORKLOAD.total // 2 - 17, "小红@south": WORKLOAD.total // 2 + 17},
    )


def _fixed_rate(transport: str, repetition: int, chance: random.Random) -> Run:
    p50 = SPEED[transport][1] * chance.gauss(1, 0.05)
    tail = chance.uniform(2.2, 3.4)
    points = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100]
    curve = [(float(p), p50 * (0.5 + p / 100) * (1 + tail * (p / 100) ** 24)) for p in points]
    seconds = dict(curve)
    return a_run(
        transport,
        RunKind.FIXED_RATE,
        repetition=repetition,
        seconds=WORKLOAD.total / OFFERED,
        accepted_per_second=OFFERED,
        eaten_per_second=OFFERED,
        latency=Latency(
            offered_per_second=OFFERED, p50=seconds[50], p99=seconds[99], max=seconds[100], curve=curve
        ),
    )


def _fault(transport: str, fault: str, chance: random.Random) -> Run:
    expected = EXPECTED[transport][FAULTS.index(fault)]
    verdict = SURPRISES.get((transport, fault), expected)
    total = WORKLOAD.total
    duplicated = 3 if verdict is D else 0
    eat, at = chance.uniform(900, 3000), chance.uniform(0.5, 0.8)
    lost = {L: chance.randrange(1, 400), W: total - int(eat * at)}.get(verdict, 0)
    seconds = WORKLOAD.deadline if verdict is W else total / eat + 0.6
    eaten = total - lost
    line = _timeline(seconds, eat * 1.3, eat, total)
    if verdict in {W, L}:
        line = [m.model_copy(update={"eaten": min(m.eaten, eaten)}) for m in line]
    return a_run(
        transport,
        RunKind.FAULT,
        fault=fault,
        counts=Counts(
            attempted=total,
            accepted=total,
            eaten=eaten,
            lost=lost,
            duplicated=duplicated,
            recovered=0,
            unexpected=0,
        ),
        verdict=verdict,
        expected=expected,
        seconds=seconds,
        accepted_per_second=total / seconds,
        eaten_per_second=eaten / seconds,
        fault_at=at,
        timeline=line,
        eaten_by={"小明": eaten // 3, "小红": eaten - eaten // 3},
        error=f"The run did not finish by its deadline of {WORKLOAD.deadline:g} s." if verdict is W else None,
    )


def _timeline(seconds: float, accept: float, eat: float, total: int) -> list[Moment]:
    steps = count()
    every = max(seconds / 40, 0.02)
    return [
        Moment(at=at, accepted=min(total, int(at * accept)), eaten=min(total, int(at * eat)))
        for at in (next(steps) * every for _ in range(int(seconds / every) + 1))
    ]
