"""The whole check: the network, Buildkite's side, C1's side."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from buildkite_connector.cli.checklist.buildkite import BuildkiteSteps
from buildkite_connector.cli.checklist.c1 import C1Steps
from buildkite_connector.cli.checklist.network import NetworkSteps
from buildkite_connector.cli.checklist.settings import CheckSettings
from buildkite_connector.cli.checklist.steps import Finding, carry_out
from buildkite_connector.timing.clock import Clock, SystemClock

__all__ = ["CheckSettings", "run_checks"]


async def run_checks(
    settings: CheckSettings, listen: Callable[[Finding], None], clock: Clock | None = None
) -> list[Finding]:
    """Carry out all steps; `listen` hears of each finding at once. Never raises Failure."""
    used = clock or SystemClock()

    async with AsyncExitStack() as stack:
        network = NetworkSteps(settings.environment)
        steps = [
            *network.steps,
            *BuildkiteSteps(settings, network, used, stack).steps,
            *C1Steps(settings, network, used, stack).steps,
        ]
        return await carry_out(steps, listen, settings.redactor.without(settings.client_id))
