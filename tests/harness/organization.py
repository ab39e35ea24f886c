"""Organizations as Buildkite's API tells them (`data/acme-org.json`, `data/access-org.json`), and as this project holds
them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from buildkite_connector.model.directory import (
    FULL_SCOPE,
    AccessLevel,
    AccessToken,
    AccessTokenID,
    Account,
    AccountDetails,
    AccountID,
    Cluster,
    ClusterID,
    ClusterMaintainer,
    Directory,
    Membership,
    Organization,
    OrganizationSlug,
    Pipeline,
    PipelineAccess,
    PipelineID,
    ResourceKind,
    Role,
    SyncScope,
    Team,
    TeamID,
)
from simulators.buildkite.made_organization import TEAM_SETTINGS

DATA = Path(__file__).parents[1] / "data"
ACME_ORG = DATA / "acme-org.json"
ACME_REFERENCE = DATA / "acme-reference.c1z"
"""What the reference connector made of the organization in `ACME_ORG`."""
ACCESS_ORG = DATA / "access-org.json"
"""A small organization with pipelines, clusters and roles.

Its user Pat has two levels on one pipeline through two teams, and maintains a cluster directly and through a team. One
account has no role, one pipeline no team, and one pipeline is only in a team's list.
"""


def acme() -> Directory:
    """The organization in `ACME_ORG`."""
    return directory_of(json.loads(ACME_ORG.read_text(encoding="utf-8")))


def access(scope: SyncScope) -> Directory:
    """What a sync of `scope` reads of the organization in `ACCESS_ORG`."""
    return directory_of(json.loads(ACCESS_ORG.read_text(encoding="utf-8")), scope)


def with_portal(directory: Directory) -> Directory:
    """The organization in `ACCESS_ORG` as a sync with a portal reads it.

    Of its accounts, in their order, one was never active, one is a machine user, of one it is not known which of the
    two it is, and one left before the portal was read. Of its tokens, one never expires, one was never used and has
    neither a description nor scopes, one belongs to nobody known, and one to somebody who left.
    """
    found = (
        AccountDetails(_at("2026-11-22T22:10:05.123456Z"), True, False, _at("2024-02-29T08:00:00Z")),
        AccountDetails(None, False, False, _at("2026-11-20T12:30:00Z")),
        AccountDetails(_at("2026-11-22T23:27:59.999Z"), False, True, _at("2025-06-01T00:00:00.25Z")),
        AccountDetails(_at("2026-01-05T07:00:00Z"), True, None, _at("2023-03-14T00:45:16.215Z")),
        None,
        AccountDetails(_at("2026-10-31T16:20:00Z"), True, False),
    )
    accounts = zip(directory.accounts, found, strict=True) if directory.scope.wants_accounts else ()
    return replace(
        directory,
        accounts=tuple(replace(account, details=details) for account, details in accounts),
        api_tokens=_API_TOKENS if directory.scope.wants_api_tokens else (),
    )


_at = datetime.fromisoformat
_ADA, _PAT = AccountID("984aeecf-70ba-51ae-8c12-3d64d3ed9536"), AccountID("1f822b0e-5b8f-5bb6-aeb8-42ca19ff5057")
_API_TOKENS = (
    AccessToken(
        AccessTokenID("5b7e1c5e-8a0f-4c1e-9d2b-1f0a6c3e7d11"),
        _ADA,
        "Deploys <b>– ops & dev</b>",
        _at("2024-03-01T09:00:00.5Z"),
        None,
        _at("2026-11-22T23:01:02.003Z"),
        ("read_builds", "write_builds", "graphql"),
    ),
    AccessToken(
        AccessTokenID("0c9b5a0e-3d57-4a83-8f5e-2a7d1b9c4e22"),
        _PAT,
        "",
        _at("2026-11-20T13:00:00Z"),
        _at("2026-11-27T13:00:00Z"),
        None,
        (),
    ),
    AccessToken(
        AccessTokenID("e1f4d2a7-6b38-4e0d-b5c9-3c8e2d0f5f33"),
        None,
        "Nightly",
        _at("2025-01-01T00:00:00Z"),
        _at("2027-01-01T00:00:00Z"),
        _at("2026-11-22T01:00:00Z"),
        ("read_agents",),
    ),
    AccessToken(
        AccessTokenID("a8d6f3b1-9c42-4f7a-8e15-4d9f3e1a6044"),
        AccountID("77e0f4c2-1b5d-4a96-9c3e-8f2d7b6a5e19"),
        "Nightly",
        _at("2025-06-30T12:00:00Z"),
        None,
        None,
        ("read_teams", "read_organizations"),
    ),
)


def directory_of(document: Mapping[str, Any], scope: SyncScope = FULL_SCOPE) -> Directory:
    """The directory of a document in the form of `simulators.buildkite.organization.Organization.document`."""
    organization = document["organization"]
    return Directory(
        organization=Organization(
            id=organization["id"],
            slug=OrganizationSlug(organization["slug"]),
            name=organization["name"],
        ),
        accounts=tuple(_accounts(document)) if scope.wants_accounts else (),
        teams=tuple(_teams(document)) if scope.wants_teams else (),
        memberships=tuple(_memberships(document)) if scope.wants_memberships else (),
        scope=scope,
        pipelines=tuple(_pipelines(document, scope)) if scope.wants_pipelines else (),
        pipeline_access=tuple(_pipeline_access(document)) if scope.wants_pipeline_access else (),
        clusters=tuple(_clusters(document)) if scope.wants_clusters else (),
        cluster_maintainers=tuple(_cluster_maintainers(document, scope)),
    )


def _accounts(document: Mapping[str, Any]) -> Iterator[Account]:
    for member in document["members"]:
        yield Account(
            id=AccountID(member["id"]),
            name=member["name"],
            email=member["email"],
            role=member.get("role"),
            sso_mode=member.get("sso_mode"),
        )


def _teams(document: Mapping[str, Any]) -> Iterator[Team]:
    for team in document["teams"]:
        yield Team(
            id=TeamID(team["id"]),
            name=team["name"],
            slug=team["slug"],
            description=team["description"] or "",
            privacy=team["privacy"],
            is_default=team["default"],
            created_at=team["created_at"],
            **{setting: team[setting] for setting in TEAM_SETTINGS if setting in team},
        )


def _memberships(document: Mapping[str, Any]) -> Iterator[Membership]:
    for team in document["teams"]:
        for membership in document["team_members"][team["id"]]:
            yield Membership(
                team=TeamID(team["id"]),
                account=AccountID(membership["user_id"]),
                role=Role(membership["role"]),
            )


def _pipelines(document: Mapping[str, Any], scope: SyncScope) -> Iterator[Pipeline]:
    """Those in the list, then those that only a team's list names, by their slugs."""
    listed = set()
    for pipeline in document.get("pipelines", ()):
        listed.add(pipeline["id"])
        yield Pipeline(
            id=PipelineID(pipeline["id"]),
            slug=pipeline["slug"],
            name=pipeline["name"],
            description=pipeline.get("description") or "",
            web_url=pipeline["web_url"],
            repository=pipeline["repository"],
            visibility=pipeline["visibility"],
            cluster_id=pipeline["cluster_id"] or "",
            archived_at=pipeline["archived_at"] or "",
        )
    for _, item in _team_pipelines(document) if scope.wants_pipeline_access else ():
        if item["pipeline_id"] not in listed:
            listed.add(item["pipeline_id"])
            slug = item["pipeline_url"].rpartition("/")[2]
            yield Pipeline(id=PipelineID(item["pipeline_id"]), slug=slug, name=slug)


def _pipeline_access(document: Mapping[str, Any]) -> Iterator[PipelineAccess]:
    for team, item in _team_pipelines(document):
        yield PipelineAccess(PipelineID(item["pipeline_id"]), TeamID(team), AccessLevel(item["access_level"]))


def _team_pipelines(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for team in document["teams"]:
        for item in document.get("team_pipelines", {}).get(team["id"], ()):
            yield team["id"], item


def _clusters(document: Mapping[str, Any]) -> Iterator[Cluster]:
    for cluster in document.get("clusters", ()):
        yield Cluster(
            id=ClusterID(cluster["id"]),
            name=cluster["name"],
            description=cluster["description"] or "",
            web_url=cluster["web_url"],
        )


def _cluster_maintainers(document: Mapping[str, Any], scope: SyncScope) -> Iterator[ClusterMaintainer]:
    for cluster, maintainers in document.get("cluster_maintainers", {}).items():
        for actor in (maintainer["actor"] for maintainer in maintainers):
            if actor["type"] == "user" and scope.wants_user_maintainers:
                yield ClusterMaintainer(
                    ClusterID(cluster), AccountID(actor["id"]), ResourceKind.USER, name=actor["name"]
                )
            if actor["type"] == "team" and scope.wants_team_maintainers:
                yield ClusterMaintainer(ClusterID(cluster), TeamID(actor["id"]), ResourceKind.TEAM)
