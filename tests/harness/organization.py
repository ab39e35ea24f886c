"""A real organization as Buildkite's API tells it (`data/acme-org.json`), and as this project holds it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
)
from simulators.buildkite.made_organization import TEAM_SETTINGS

DATA = Path(__file__).parents[1] / "data"
ACME_ORG = DATA / "acme-org.json"
ACME_REFERENCE = DATA / "acme-reference.c1z"
"""What the reference connector made of the organization in `ACME_ORG`."""


def acme() -> Directory:
    """The organization in `ACME_ORG`."""
    return directory_of(json.loads(ACME_ORG.read_text(encoding="utf-8")))


def directory_of(document: Mapping[str, Any]) -> Directory:
    """The directory of a document with `organization`, `members`, `teams` and `team_members` by team id."""
    organization = document["organization"]
    return Directory(
        organization=Organization(
            id=organization["id"],
            slug=OrganizationSlug(organization["slug"]),
            name=organization["name"],
        ),
        accounts=tuple(
            Account(
                id=AccountID(member["id"]),
                name=member["name"],
                email=member["email"],
                role=member.get("role"),
                sso_mode=member.get("sso_mode"),
            )
            for member in document["members"]
        ),
        teams=tuple(
            Team(
                id=TeamID(team["id"]),
                name=team["name"],
                slug=team["slug"],
                description=team["description"] or "",
                privacy=team["privacy"],
                is_default=team["default"],
                created_at=team["created_at"],
                **{setting: team[setting] for setting in TEAM_SETTINGS if setting in team},
            )
            for team in document["teams"]
        ),
        memberships=tuple(
            Membership(
                team=TeamID(team["id"]),
                account=AccountID(membership["user_id"]),
                role=Role(membership["role"]),
            )
            for team in document["teams"]
            for membership in document["team_members"][team["id"]]
        ),
    )
