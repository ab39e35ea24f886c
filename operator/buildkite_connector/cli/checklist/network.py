"""How this process reaches others, as a check has it: certificate authorities and proxies, before anything is asked."""

import asyncio
from collections.abc import Mapping, Sequence

from buildkite_connector.cli.checklist.steps import Outcome, Step, failed, ok, warning
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.tasks import Code
from buildkite_connector.network import Network, Proxies, Proxy, Trust, read_proxies, read_trust

NEEDED = ("certificates", "proxies")
"""What every step needs that connects."""


class NetworkSteps:
    """`network` is what the steps found."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._trust: Trust
        self._proxies: Proxies

    @property
    def network(self) -> Network:
        return Network(self._trust, self._proxies)

    @property
    def steps(self) -> Sequence[Step]:
        return [
            Step("certificates", "CA certificates", (), self._read_certificates),
            Step("proxies", "Proxies", (), self._read_proxies),
        ]

    async def _read_certificates(self) -> Outcome:
        try:
            self._trust = await asyncio.to_thread(read_trust, self._environment)
        except Failure as failure:
            return failed(failure.message, Code.INVALID_ARGUMENT)
        if self._trust.warnings:
            return warning(" ".join(self._trust.warnings))
        return ok(f"servers are verified by {' and '.join(self._trust.sources)}")

    async def _read_proxies(self) -> Outcome:
        try:
            self._proxies = read_proxies(self._environment)
        except Failure as failure:
            return failed(failure.message, Code.INVALID_ARGUMENT)
        if self._proxies.warnings:
            return warning(" ".join(self._proxies.warnings))
        named = {
            proxy.variable: proxy for proxy in (self._proxies.https, self._proxies.http) if isinstance(proxy, Proxy)
        }
        if not named:
            return ok("none: every host is reached directly")
        return ok(", ".join(f"{proxy} ({variable})" for variable, proxy in named.items()))
