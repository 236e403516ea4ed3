"""The pytest plugin: ``pytest_plugins = ["baozi.testing.fixtures"]``. No other module loads it."""

from collections.abc import Iterator

import pytest

from baozi.errors import UsageError
from baozi.prove.lab_broker import LabBroker, own_broker
from baozi.testing.faults import Faults
from baozi.testing.faulty_broker import FaultyBroker, behind_a_proxy
from baozi.testing.workers import FaultTarget


@pytest.fixture(scope="session")
def faulty_node() -> Iterator[LabBroker]:
    """A RabbitMQ for the session: this machine's own as a private node, or one in a container."""
    with own_broker(None) as node:
        yield node


@pytest.fixture
def faulty_broker(faulty_node: LabBroker) -> Iterator[FaultyBroker]:
    """A broker for one test: a separate virtual host, behind a proxy."""
    with behind_a_proxy(faulty_node) as broker:
        yield broker


@pytest.fixture
def workers_under_fault() -> FaultTarget:
    """The workers that ``faults`` hits. The test's own fixture of this name returns them."""
    raise UsageError("Define a fixture workers_under_fault that returns ProcessWorkers(app).")


@pytest.fixture
def faults(request: pytest.FixtureRequest, workers_under_fault: FaultTarget) -> Faults:
    """The faults that the test can inject."""
    used = "faulty_broker" in request.fixturenames
    return Faults(workers_under_fault, request.getfixturevalue("faulty_broker") if used else None)
