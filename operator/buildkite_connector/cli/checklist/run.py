"""The whole check: certificates, Buildkite's side, C1's side."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from buildkite_connector.c1 import load_trust
from buildkite_connector.cli.checklist.buildkite import BuildkiteSteps
from buildkite_connector.cli.checklist.c1 import C1Steps
from buildkite_connector.cli.checklist.settings import CheckSettings
from buildkite_connector.cli.checklist.steps import Finding, Outcome, Step, carry_out, failed, ok
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.tasks import Code
from buildkite_connector.timing.clock import Clock, SystemClock

__all__ = ["CheckSettings", "run_checks"]


async def run_checks(
    settings: CheckSettings, listen: Callable[[Finding], None], clock: Clock | None = None
) -> list[Finding]:
    """Carry out all steps; `listen` hears of each finding at once. Never raises Failure."""
    used = clock or SystemClock()

    async def read_certificates() -> Outcome:
        try:
            await asyncio.to_thread(load_trust, settings.c1)
        except Failure as failure:
            return failed(failure.message, Code.INVALID_ARGUMENT)
        file = settings.c1.ca_file
        return ok(f"servers are verified by {file} (SSL_CERT_FILE)" if file else "servers are verified by public CAs")

    async with AsyncExitStack() as stack:
        steps = [
            Step("certificates", "CA certificates", (), read_certificates),
            *BuildkiteSteps(settings, used, stack).steps,
            *C1Steps(settings, used, stack).steps,
        ]
        return await carry_out(steps, listen, settings.redactor.without(settings.client_id))
