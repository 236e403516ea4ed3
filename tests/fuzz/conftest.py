"""The broker of these tests is that of the integration tests."""

from tests.integration.conftest import private

__all__ = ["private"]
