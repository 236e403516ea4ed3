"""Runs a test of your own under a fault. docs/how-to/test-under-faults.md shows a test.

The fixtures are in the pytest plugin ``baozi.testing.fixtures``, which a test module names itself.
"""

from baozi.testing.condition import Condition, RunningTask, running
from baozi.testing.faults import FaultNotInjected, Faults, TestedFault
from baozi.testing.faulty_broker import FaultyBroker
from baozi.testing.workers import ProcessWorkers, started_workers

__all__ = [
    "Condition",
    "FaultNotInjected",
    "Faults",
    "FaultyBroker",
    "ProcessWorkers",
    "RunningTask",
    "TestedFault",
    "running",
    "started_workers",
]
