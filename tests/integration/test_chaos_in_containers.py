"""`baozi chaos` on RabbitMQ 4.3 in a container, and on a cluster of three."""

import pytest

from tests.integration.chaos_command import chaos, check_that_it_is_sound, only
from tests.requirements import need_engine


@pytest.mark.timeout(400)
def test_a_broker_in_a_container_that_is_killed_comes_back_at_another_port_and_nothing_is_lost() -> None:
    need_engine()
    faults = ("kill-broker", "kill-worker", "reset", "freeze-worker")
    said, _ = chaos("--on", "container", "--times", "1", *only(faults), "--json")
    check_that_it_is_sound(said, faults)


@pytest.mark.timeout(600)
def test_a_cluster_whose_nodes_are_killed_and_restarted_loses_nothing() -> None:
    need_engine()
    faults = ("kill-leader", "restart-each-node")
    said, _ = chaos("--on", "cluster", "--times", "1", *only(faults), "--json")
    check_that_it_is_sound(said, faults)
