"""The toy project of the flows' tests."""

from tests.flows.conftest import model, project, template  # noqa: F401
