"""What is measured: organizations of three sizes, answered at once and after 20 ms, without a quota and under one.

Buildkite's windows last a minute, and 10,000 accounts take 20 of them: a bench shortens them. What a client loses at
each turn of a window (a round trip, a timer) does not shrink with it, so a ratio measured here is worse than it is
with Buildkite. One case keeps the minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from buildkite_connector.model.directory import DEFAULT_KINDS, ResourceKind
from fakes.organization_api import REST_KINDS
from simulators.buildkite.api import ACCESS_SCOPES

PREFLIGHT = 2
"""Requests before the minimum of facts/buildkite-api.md: the token's scopes, the organization."""


@dataclass(frozen=True, slots=True)
class Size:
    """An organization. `minimum`: requests that reading it takes are counted by the simulator that grew it.

    `team_pipelines`: how many pipelines all teams have together. Where there are any, all resource types of the
    REST API are synced.
    """

    accounts: int
    teams: int
    memberships: int
    pipelines: int = 0
    team_pipelines: int = 0
    clusters: int = 0

    @property
    def kinds(self) -> frozenset[ResourceKind]:
        return REST_KINDS if self.pipelines else DEFAULT_KINDS


@dataclass(frozen=True, slots=True)
class Quota:
    """A user limit of `limit` requests a window of `window` seconds, of which the connector may see `percent` used.

    `others`: what a second tool with the same token takes of each window, at its opening, or `spread` over it.
    `decimals`: of the resets that the API tells; Buildkite has none, but rounding to a second outweighs a short window.
    """

    percent: int
    window: float
    limit: int = 50
    others: int = 0
    spread: bool = False
    decimals: int = 3

    @property
    def each_window(self) -> int:
        """Requests of ours that a window lets through. Spread use comes after a client that is quick."""
        return max(1, self.limit * self.percent // 100 - (0 if self.spread else self.others))

    def least_seconds(self, requests: int, latency: float) -> float:
        """The least time from the first of so many requests to the last answer.

        A window opens_at with the first request after the one before ended, and lasts its length. So the n-th request
        can leave no earlier than ⌈n / each window's⌉ - 1 windows after the first, and its answer takes `latency`.
        No client with this share is faster; all that the last window's requests take beyond that counts against us.
        """
        return (ceil(requests / self.each_window) - 1) * self.window + latency


@dataclass(frozen=True, slots=True)
class Case:
    """`latency` in seconds a request; `runs` of the command, `probes` of the event loop."""

    name: str
    size: Size
    latency: float
    quota: Quota | None = None
    runs: int = 1
    probes: int = 0

    def simulator_arguments(self) -> list[str]:
        size, quota = self.size, self.quota
        arguments = [
            *(f"--accounts={size.accounts}", f"--teams={size.teams}", f"--memberships={size.memberships}"),
            *(f"--pipelines={size.pipelines}", f"--team-pipelines={size.team_pipelines}"),
            *(f"--clusters={size.clusters}", f"--scopes={','.join(ACCESS_SCOPES)}"),
            *(f"--organization={SLUG}", f"--latency={self.latency}", "--organization-limit=none"),
        ]
        if quota is None:
            return [*arguments, "--user-limit=none"]
        arguments += [f"--user-limit={quota.limit}", f"--window={quota.window}", f"--reset-decimals={quota.decimals}"]
        arguments += [f"--other-user-use={quota.others}", *(["--spread-other-use"] if quota.spread else [])]
        return arguments


SLUG = "synthetic"
SMALL = Size(1_000, 50, 3_800)
MEDIUM = Size(10_000, 500, 38_000)
LARGE = Size(100_000, 2_000, 400_000)
SMALL_ACCESS = Size(1_000, 50, 3_800, pipelines=200, team_pipelines=100, clusters=2)
MEDIUM_ACCESS = Size(10_000, 500, 38_000, pipelines=2_000, team_pipelines=1_000, clusters=20)
LATENCY = 0.02
HALF = 25
"""What a second tool takes of 50."""


def _quotas(prefix: str, size: Size, alone: float, with_tool: float) -> list[Case]:
    """The windows' seconds without and with a second tool."""
    kinds = {
        "quota80": Quota(80, alone),
        "quota100": Quota(100, alone),
        "quota80-tool": Quota(80, with_tool, others=HALF),
        "quota100-tool": Quota(100, with_tool, others=HALF),
    }
    return [Case(f"{prefix}-{name}", size, LATENCY, quota) for name, quota in kinds.items()]


_UNLIMITED = [
    Case("1k", SMALL, 0.0, runs=7, probes=3),
    Case("1k-20ms", SMALL, LATENCY, runs=7, probes=3),
    Case("10k", MEDIUM, 0.0, runs=5, probes=3),
    Case("10k-20ms", MEDIUM, LATENCY, runs=5, probes=3),
    Case("10k-access-20ms", MEDIUM_ACCESS, LATENCY, probes=1),
    Case("100k", LARGE, 0.0, probes=1),
    Case("100k-20ms", LARGE, LATENCY, probes=1),
]
_LIMITED = [
    *_quotas("1k", SMALL, 5.0, 2.0),
    *_quotas("10k", MEDIUM, 1.0, 1.0),
    Case("1k-quota80-spread-tool", SMALL, LATENCY, Quota(80, 5.0, others=HALF, spread=True)),
    Case("100k-quota80", LARGE, LATENCY, Quota(80, 1.0)),
    Case("1k-access-minute", SMALL_ACCESS, LATENCY, Quota(80, 60.0, decimals=0)),
    Case("1k-minute", SMALL, LATENCY, Quota(80, 60.0, decimals=0)),
]

CASES: Mapping[str, Case] = {case.name: case for case in (*_UNLIMITED, *_LIMITED)}
QUICK = [
    *(replace(CASES[name], runs=3, probes=1) for name in ("1k", "1k-20ms")),
    *(CASES[name] for name in ("1k-quota80", "1k-quota80-tool")),
]
"""Some of the small ones: under half a minute in all."""
