"""The part of the spec that lets C1's approved requests change memberships of Buildkite teams."""

import re
from typing import Annotated

from pydantic import Field

from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN, Constraint, Rule, SpecPart
from buildkite_connector.model.directory import Role
from buildkite_connector.model.provisioning import WRITE_SCOPE

_ATOMIC = {"x-kubernetes-list-type": "atomic"}
"""A server-side apply of one item over the default would be merged to all of them in a set."""

_EACH_ROLE_ONCE = Constraint(
    Rule(
        "self.all(each, self.exists_one(other, other == each))",
        "spec.provisioning.roles must name each role once.",
    ),
    lambda roles: len(set(roles)) == len(roles),
)
_SLUGS = Constraint(
    Rule(
        f"self.all(each, each.matches('^{SLUG_PATTERN}$'))",
        "spec.provisioning.protectedTeams must hold slugs of teams, such as release-managers:"
        " lower-case letters, digits, '-' and '_'.",
    ),
    lambda slugs: all(re.fullmatch(SLUG_PATTERN, slug) for slug in slugs),
)


class ProvisioningModel(SpecPart):
    """Whether C1's approved requests change memberships of Buildkite teams. Off, the connector only reads."""

    enabled: bool = Field(
        False,
        description="True: C1's grant and revoke tasks change who is in a team. The API token, or the one for writing,"
        f" then needs the scope {WRITE_SCOPE}. False: they are refused, within a second.",
    )
    roles: Annotated[list[Annotated[Role, Field(strict=False, description="A role in a team.")]], _EACH_ROLE_ONCE] = (
        Field(
            [Role.MEMBER, Role.MAINTAINER],
            min_length=1,
            max_length=len(Role),
            description="Which roles may be granted: member, maintainer or both. Any membership may be revoked.",
            json_schema_extra=dict(_ATOMIC),
        )
    )
    protected_teams: Annotated[list[Annotated[str, Field(max_length=255, description="A team's slug.")]], _SLUGS] = (
        Field(
            [],
            max_length=100,
            description="Slugs of teams whose memberships are never changed; a request for one is refused in C1.",
            json_schema_extra=dict(_ATOMIC),
        )
    )
