"""All faults by name: those that ``baozi chaos`` injects, and those that ``baozi compare`` injects."""

from typing import Any

from side_by_side.chaos_environment import ChaosEnvironment
from side_by_side.faults import (
    broker,
    clock,
    cluster,
    kill_at_moment,
    network,
    processes,
    rolling_deploy,
    storage,
)
from side_by_side.faults.fault import Fault
from side_by_side.observed_run import ObservedRun

_CHAOS = (processes, broker, network, storage, clock, rolling_deploy, cluster)

#: Injected into a chaos environment, which goes on working.
CHAOS_FAULTS: dict[str, Fault[ChaosEnvironment]] = {
    fault.name: fault for module in _CHAOS for fault in module.FAULTS
}
#: Injected into one run of a comparison, on every transport.
COMPARE_FAULTS: dict[str, Fault[ObservedRun]] = {fault.name: fault for fault in kill_at_moment.FAULTS}

FAULTS: dict[str, Fault[Any]] = {**CHAOS_FAULTS, **COMPARE_FAULTS}
