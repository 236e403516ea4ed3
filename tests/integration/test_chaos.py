"""`baozi chaos` as a user runs it: each fault while work is in flight, and the sums at the end."""

import json
from pathlib import Path
from random import Random

import pytest

from baozi.broker import private_node
from baozi.faults.proxy import NetworkCondition
from baozi.faults.single_node import single_node
from side_by_side import chaos_environment
from side_by_side.chaos import ChaosPlan
from side_by_side.chaos import chaos as run_chaos
from side_by_side.chaos_environment import ChaosConfiguration, ChaosEnvironment
from side_by_side.faults.fault import Effect, Fault
from side_by_side.faults.registry import CHAOS_FAULTS
from tests.integration.chaos_command import chaos, check_that_it_is_sound, only
from tests.requirements import need

#: Faults of processes, which differ where workers eat by trays; the others are tried with trays alone.
OF_PROCESSES = (
    "kill-pool-child",
    "kill-worker",
    "orphan-pool",
    "stop-worker",
    "freeze-worker",
    "kill-producer-in-a-burst",
    "kill-putting-producer",
)
THE_OTHERS = tuple(
    name for name, it in CHAOS_FAULTS.items() if "private" in it.brokers and name not in OF_PROCESSES
)


@pytest.mark.parametrize("transport", ["celery", "celery-trays"])
@pytest.mark.timeout(400)
def test_nothing_is_lost_when_any_process_is_killed_frozen_or_stopped(transport: str) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    said, _ = chaos("--transport", transport, "--times", "1", "--seed", "3", *only(OF_PROCESSES), "--json")
    check_that_it_is_sound(said, OF_PROCESSES)


@pytest.mark.timeout(500)
def test_nothing_is_lost_under_faults_of_broker_network_ledger_and_clock() -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    said, _ = chaos("--times", "1", "--away", "8", *only(THE_OTHERS), "--json")
    check_that_it_is_sound(said, THE_OTHERS)


def test_messages_that_a_stopped_worker_has_finished_are_not_redelivered() -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    said, _ = chaos("--times", "2", "--fault", "stop-worker", "--json")
    results = check_that_it_is_sound(said, ("stop-worker",) * 2)
    assert results.sums.deliveries == results.sums.eaten


def test_a_mix_prints_its_seed_and_a_table_and_the_sums() -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    mix = only(("kill-pool-child", "kill-putting-producer"))
    table, said = chaos("--seconds", "4", "--seed", "11", *mix)
    assert said.splitlines()[0] == "seed 11"
    assert " lost, 0 eaten twice" in table
    again = json.loads(chaos("--seconds", "1", "--seed", "11", *mix, "--json")[0])["steps"]
    before = [line.split()[2].rstrip(":") for line in said.splitlines()[1:]]
    assert [step["fault"] for step in again] == before[: len(again)]


def test_a_producer_that_does_not_end_leaves_its_order_open_and_its_log_says_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(private_node.server() is not None, "this machine has no rabbitmq-server")
    monkeypatch.setattr(chaos_environment, "_CLOSED", 1)
    monkeypatch.setattr(chaos_environment, "_SETTLED", 1)

    def let_all_producers_wait(environment: ChaosEnvironment, _: Random) -> Effect:
        environment.start_recovery_clock()
        environment.seconds_to_recovery()
        for proxy in environment.proxies:
            proxy.set_condition(NetworkCondition(up=False, down=False))
        while not environment.records.producers_are_silent():
            environment.pause(0)
        return Effect("all")

    silence = Fault("silence", "silences", "nothing", let_all_producers_wait)
    with single_node("private") as target:
        plan = ChaosPlan(
            "private",
            "celery",
            ChaosConfiguration(producers=("alex",)),
            [silence],
            seed=1,
            seconds=60,
            times=1,
        )
        results = run_chaos(plan, target, tmp_path, lambda _: None)
    assert results.error == "Waited 1 s for the producers to close their orders, without success."
    assert (results.sums.accepted, results.sound) == (None, False)
    assert "in wait_for_confirms" in (tmp_path / "logs" / "producer-alex.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fault", "kill-all"], "There is no fault 'kill-all'; there are kill-pool-child, "),
        (["--on", "the-moon"], "There is no broker 'the-moon'; there are private, container, cluster."),
        (
            ["--transport", "queue"],
            "`baozi chaos` cannot run on 'queue'. It can run on celery and celery-trays.",
        ),
        (["--fault", "kill-leader"], "The fault kill-leader needs --on cluster."),
        (["--out", "/proc/of-nobody"], "The file /proc/of-nobody cannot be written: "),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    _, said = chaos(*arguments, code=2)
    assert len(said.splitlines()) == 1
    assert said.startswith(sentence)
