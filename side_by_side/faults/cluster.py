"""Faults of a cluster's nodes: of three, any one may be gone, and the work goes on."""

from random import Random
from typing import cast

from side_by_side.faults.strike import Strike, Struck, Victim
from side_by_side.kitchen import Kitchen
from side_by_side.targets.target import Cluster

#: Seconds for every producer to be accepted again while a node is cut off.
_ACCEPTED_AGAIN = 60


def kill_leader(kitchen: Kitchen, _: Random) -> Struck:
    """``kill -9`` the node where the queue's leader is, see that work goes on, and start it again."""
    nodes = cast("Cluster", kitchen.broker)
    leader = nodes.leader()
    kitchen.mark()
    nodes.kill_node(leader)
    kitchen.recount()
    kitchen.recovered_after()
    nodes.revive()
    return Struck(f"node {leader}, the queue's leader", kitchen.in_doubt)


def cut_off_a_node(kitchen: Kitchen, chance: Random) -> Struck:
    """Cut a node off from the others, with those clients that are on it, and let it join again.

    Nobody tells a client of a node that is in the minority: its puts meet silence, and go to another node.
    """
    nodes = cast("Cluster", kitchen.broker)
    node = int(chance.random() * nodes.nodes)
    kitchen.mark()
    nodes.cut_off(node)
    kitchen.recount()
    try:
        kitchen.recovered_after()
        before = {name: kitchen.books.accepted(name) for name in kitchen.menu.producers}
        kitchen.wait(
            lambda: all(kitchen.books.accepted(name) > count for name, count in before.items()),
            "every producer to be accepted while a node is cut off",
            _ACCEPTED_AGAIN,
        )
    finally:
        nodes.join(node)
    return Struck(f"node {node}", 2 * kitchen.in_doubt)


def restart_each_node(kitchen: Kitchen, _: Random) -> Struck:
    """Restart one node after the other, as for an upgrade."""
    nodes = cast("Cluster", kitchen.broker)
    kitchen.mark()
    for node in range(nodes.nodes):
        nodes.restart(node)
        kitchen.wait_for_work()
    return Struck("each node", kitchen.in_doubt * nodes.nodes)


STRIKES = (
    Strike("kill-leader", "0 lost, work goes on", kill_leader, Victim.BROKER, needs_cluster=True),
    Strike("cut-off-node", "0 lost, work goes on", cut_off_a_node, needs_cluster=True),
    Strike("restart-each-node", "0 lost, work goes on", restart_each_node, needs_cluster=True),
)
