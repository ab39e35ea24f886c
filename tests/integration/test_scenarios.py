"""The operator's process on the embedded Kubernetes API."""

import pytest

from scenarios.delivery import TestDelivery
from scenarios.secrecy import TestSecrecy
from scenarios.tasks import TestTasks, ready_tenant
from scenarios.troubles import TestTroubles, stories, story

__all__ = ("TestDelivery", "TestSecrecy", "TestTasks", "TestTroubles", "ready_tenant", "stories", "story")

pytest_plugins = ("scenarios.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")
