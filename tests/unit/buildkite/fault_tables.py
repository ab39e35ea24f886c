"""What goes wrong in the field, by how a sync takes it."""

from buildkite_connector.model.failure import Reason
from simulators.buildkite import faults
from simulators.buildkite.faults import Effect

MEMBERS = "/v2/organizations/acme/members"


TEAMS = "/v2/organizations/acme/teams"


TEAM_MEMBERS = "/v2/organizations/acme/teams/*/members"


PASSING: dict[str, Effect] = {
    "500": faults.server_error(),
    "502 with HTML": faults.bad_gateway(),
    "503 with Retry-After": faults.unavailable(0),
    "503 with a date": faults.unavailable("Thu, 01 Jan 2015 12:00:00 GMT"),
    "503 with nonsense": faults.unavailable("soon"),
    "503 without Retry-After": faults.unavailable(None),
    "408": faults.answer(408, {"message": "Request Timeout"}),
    "reset before the answer": faults.reset(None),
    "reset in the body": faults.reset(0.5),
    "closed before the answer": faults.disconnect(None),
    "closed in the body": faults.disconnect(0.5),
    "stalled before the answer": faults.stall(None),
    "stalled in the body": faults.stall(0.5),
    "too slow": faults.slow(5),
    "truncated JSON": faults.truncated_json(),
    "no JSON": faults.not_json(),
    "HTML with 200": faults.not_json("<html>please log in</html>"),
    "429 without headers": faults.answer(429, {"message": "slow down"}),
}
"""What is over at the next try."""


HARMLESS: dict[str, Effect] = {
    "an unknown field": faults.set_field("pronouns", {"they": ["them"]}, index=None),
    "no rate-limit headers": faults.no_rate_limit_headers(),
    "absurd rate-limit headers": faults.rate_limit_headers(
        {"RateLimit-User-Limit": "many", "RateLimit-Limit": "", "RateLimit-Reset": "1e400"}
    ),
    "negative rate-limit headers": faults.rate_limit_headers(
        {
            "RateLimit-User-Limit": "-50",
            "RateLimit-User-Remaining": "-1",
            "RateLimit-Remaining": "-7",
            "RateLimit-Reset": "-60",
        }
    ),
    "a reset in a thousand years": faults.rate_limit_headers(
        {
            "RateLimit-User-Limit": "50",
            "RateLimit-User-Remaining": "0",
            "RateLimit-User-Reset": "31557600000",
        }
    ),
    "a reset in the past": faults.rate_limit_headers({"RateLimit-User-Reset": "-99", "RateLimit-Reset": "-99"}),
    "only a next link": faults.relink("last", None),
}
"""What is strange and does not matter."""


FATAL: dict[str, tuple[Effect, str, Reason, str]] = {
    "a field missing": (faults.drop_field("id"), MEMBERS, Reason.BUILDKITE_RESPONSE_INVALID, r"members .*\[0\]\.id"),
    "a field null": (
        faults.set_field("slug", None, index=2),
        TEAMS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"teams .*\[2\]\.slug",
    ),
    "a field of another type": (
        faults.set_field("slug", 7),
        TEAMS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"\[0\]\.slug",
    ),
    "an unknown role": (
        faults.set_field("role", "owner"),
        TEAM_MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        r"\[0\]\.role.*'member' or 'maintainer'",
    ),
    "an object for a list": (
        faults.object_instead_of_list(),
        MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        "valid array",
    ),
    "a page loop": (faults.page_loop(), TEAMS, Reason.BUILDKITE_RESPONSE_INVALID, "next page"),
    "a next link to another host": (
        faults.links_elsewhere("https://elsewhere.example"),
        MEMBERS,
        Reason.BUILDKITE_LINK_REFUSED,
        "elsewhere.example",
    ),
    "IP not allowed": (
        faults.answer(403, {"message": "Your IP address is not in the allowlist"}),
        TEAM_MEMBERS,
        Reason.ACCESS_DENIED,
        "allowlist.*allowed IP addresses",
    ),
    "an answers_without_headers-of status": (
        faults.answer(418, {"message": "I'm a teapot"}),
        MEMBERS,
        Reason.BUILDKITE_RESPONSE_INVALID,
        "418.*teapot",
    ),
    "the token revoked": (faults.revoke_token(), TEAM_MEMBERS, Reason.TOKEN_REJECTED, "revoked"),
}
"""What stays as it is: one try settles it."""


LASTING: dict[str, tuple[Effect, Reason]] = {
    "500": (faults.server_error(), Reason.BUILDKITE_UNAVAILABLE),
    "502 with HTML": (faults.bad_gateway(), Reason.BUILDKITE_UNAVAILABLE),
    "503 with Retry-After": (faults.unavailable(0), Reason.BUILDKITE_UNAVAILABLE),
    "reset": (faults.reset(), Reason.BUILDKITE_UNREACHABLE),
    "closed in the body": (faults.disconnect(), Reason.BUILDKITE_UNREACHABLE),
    "stalled in the body": (faults.stall(), Reason.BUILDKITE_UNREACHABLE),
    "truncated JSON": (faults.truncated_json(), Reason.BUILDKITE_RESPONSE_INVALID),
    "no JSON": (faults.not_json(), Reason.BUILDKITE_RESPONSE_INVALID),
    "429 without headers": (faults.answer(429, {"message": "no"}), Reason.BUILDKITE_RATE_LIMITED),
}
"""What could pass and does not."""
