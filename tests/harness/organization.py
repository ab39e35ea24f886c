"""Organizations as Buildkite's API tells them (`data/acme-org.json`, `data/access-org.json`), and as this project holds
them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from buildkite_connector.model.directory import (
    FULL_SCOPE,
    AccessLevel,
    Account,
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
