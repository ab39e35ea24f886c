"""Buildkite's rate limits: fixed windows for the organization and for the token's user, and one for the organization's
portals.

A window opens with the first use after the last one ended, whoever's use that is, and lasts its full
length; then the count starts from nothing. Refused requests count too, which is why a refusal's
`current` may stand above its limit. `api` asks `Quota` about every authenticated request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

UNLIMITED = 1_000_000_000
"""The limit that headers tell where none is set: the headers are always there, as the real API's are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests a window for each user, each organization and its portals, None for no limit; `window` in seconds.

    Resets are told in whole seconds, rounded up, as Buildkite tells them. Where a test shortens the
    window, that rounding would outweigh what it measures: `reset_decimals` gives them decimals.
    """

    user: int | None = 50
    organization: int | None = 200
    window: float = 60.0
    reset_decimals: int = 0
    portal: int | None = 200


BUILDKITE_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class OtherUse:
    """What other tools take of each window: at its opening, or `spread` evenly over its length."""

    user: int = 0
    organization: int = 0
    spread: bool = False
    portal: int = 0


NO_OTHER_USE = OtherUse()


@dataclass(frozen=True, slots=True)
class Standing:
    """One window at one request, the request included. `reset` is seconds as the headers tell them."""

    scope: str
    limit: int
    current: int
    reset: str

    @property
    def exceeded(self) -> bool:
        return self.current > self.limit

    @property
    def warning(self) -> str:
        return f"You have exceeded your API rate limit. Please wait {self.reset} seconds before making more requests."

    def headers(self) -> dict[str, str]:
        prefix = "RateLimit-User" if self.scope == "rest_user" else "RateLimit"
        told = {
            "Ratelimit-Scope" if self.scope == "portal" else f"{prefix}-Scope": self.scope,
            f"{prefix}-Limit": str(self.limit),
            f"{prefix}-Remaining": str(max(0, self.limit - self.current)),
            f"{prefix}-Reset": self.reset,
        }
        if self.exceeded and self.scope != "portal":
            told[f"{prefix}-Warning"] = self.warning
        return told


class Quota:
    """The windows of every user and organization. `monotonic` gives seconds that never go back."""

    def __init__(self, limits: Limits, other_use: OtherUse, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self.other_use = other_use
        self._monotonic = monotonic
        self._windows: dict[tuple[str, str], _Window] = {}

    def count_request(self, user: str, organization: str | None) -> list[Standing]:
        """Counts a request against both limits; the user's standing comes first."""
        standings = [self._count("rest_user", user, 1)]
        if organization is not None:
            standings.append(self._count("rest", organization, 1))
        return standings

    def count_portal(self, organization: str) -> Standing:
        """Counts a request to any portal of the organization, by any token."""
        return self._count("portal", organization, 1)

    def consume(
        self, user: Mapping[str, int], organization: Mapping[str, int], portal: Mapping[str, int] | None = None
    ) -> None:
        """Other tools' requests, now: how many by user id and by organization slug."""
        for name, amount in user.items():
            self._count("rest_user", name, amount)
        for name, amount in organization.items():
            self._count("rest", name, amount)
        for name, amount in (portal or {}).items():
            self._count("portal", name, amount)

    def _count(self, scope: str, name: str, amount: int) -> Standing:
        now = self._monotonic()
        limits, other = self.limits, self.other_use
        limit, others = {
            "rest_user": (limits.user, other.user),
            "rest": (limits.organization, other.organization),
            "portal": (limits.portal, other.portal),
        }[scope]
        window = self._windows.get((scope, name))
        if window is None or now >= window.opened + limits.window:
            window = self._windows[scope, name] = _Window(now)
        window.used += amount
        passed = now - window.opened
        background = int(others * passed / limits.window) if other.spread else others
        return Standing(
            scope,
            UNLIMITED if limit is None else limit,
            window.used + background,
            self._reset(limits.window - passed),
        )

    def _reset(self, seconds: float) -> str:
        scale: int = 10**self.limits.reset_decimals
        return f"{ceil(round(seconds * scale, 6)) / scale:.{self.limits.reset_decimals}f}"


@dataclass(slots=True)
class _Window:
    opened: float
    used: int = 0
