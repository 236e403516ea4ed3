"""The brokers of the integration tests, for what is held to the same on each."""

from tests.integration.conftest import contained, node, private

__all__ = ["contained", "node", "private"]
