"""Faults of a cluster: of three nodes one is killed, cut off or restarted, and the work goes on."""

from random import Random
from typing import cast

from baozi.language import Sentence
from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults.fault import CLUSTER, Effect, Fault, Killed
from side_by_side.targets.target import ClusterTarget

#: Seconds for the broker to accept a baozi of every producer again while a node is cut off.
_ACCEPTED_AGAIN = 60


def kill_leader(environment: ChaosEnvironment, _: Random) -> Effect:
    """``kill -9`` the node of the queue's leader, wait until work goes on, and start the node again."""
    nodes = cast("ClusterTarget", environment.broker)
    leader = nodes.leader()
    environment.start_recovery_clock()
    nodes.kill_node(leader)
    environment.ignore_eaten_so_far()
    environment.seconds_to_recovery()
    nodes.revive()
    return Effect(Sentence("node {node}, the queue's leader", node=leader), environment.most_redelivered)


def cut_off_a_node(environment: ChaosEnvironment, chance: Random) -> Effect:
    """Cut a node off from the others, but not from its clients; later join it again.

    The node is in the minority and does not tell its clients. Their puts get no answer, and they go to
    another node.
    """
    nodes = cast("ClusterTarget", environment.broker)
    node = int(chance.random() * nodes.nodes)
    environment.start_recovery_clock()
    nodes.cut_off(node)
    environment.ignore_eaten_so_far()
    try:
        environment.seconds_to_recovery()
        before = {name: environment.records.accepted(name) for name in environment.configuration.producers}
        environment.wait_until(
            lambda: all(environment.records.accepted(name) > count for name, count in before.items()),
            "a baozi of every producer to be accepted while a node is cut off",
            _ACCEPTED_AGAIN,
        )
    finally:
        nodes.join(node)
    return Effect(Sentence("node {node}", node=node), 2 * environment.most_redelivered)


def restart_each_node(environment: ChaosEnvironment, _: Random) -> Effect:
    """Restart one node after the other, as for an upgrade."""
    nodes = cast("ClusterTarget", environment.broker)
    environment.start_recovery_clock()
    for node in range(nodes.nodes):
        nodes.restart(node)
        environment.wait_for_work()
    return Effect(Sentence("each node"), environment.most_redelivered * nodes.nodes)


FAULTS = (
    Fault(
        "kill-leader",
        "Kills the node of the queue's leader, and starts it again.",
        "0 lost, work goes on",
        kill_leader,
        brokers=CLUSTER,
        kills=Killed.BROKER,
    ),
    Fault(
        "cut-off-node",
        "Cuts one node off from the others, and joins it again.",
        "0 lost, work goes on",
        cut_off_a_node,
        brokers=CLUSTER,
    ),
    Fault(
        "restart-each-node",
        "Restarts one node after the other.",
        "0 lost, work goes on",
        restart_each_node,
        brokers=CLUSTER,
    ),
)
