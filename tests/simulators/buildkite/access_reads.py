"""What Buildkite's REST API answers of pipelines and clusters, and who sees what of them, without I/O.

The rules are those of facts/access.md. Its documentation has no text for what is not found; nothing may depend on
those here. `api` checks token, scope and organization before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulators.buildkite.access_records import WEBHOOK_SECRET
from simulators.buildkite.listing import Listing, Record
from simulators.buildkite.memberships import Outcome, find
from simulators.buildkite.organization import Organization

NOT_FOUND = Outcome(404, {"message": "Not Found"})
NO_TEAM = Outcome(404, {"message": "No team found"})
NO_TEAM_PIPELINE = Outcome(404, {"message": "No team pipeline found"})
NO_CLUSTER = Outcome(404, {"message": "No cluster found"})

MANAGE = "manage_build_and_read"
MANAGED_FIELDS = ("hosted_git_mirror_enabled", "hosted_container_cache_enabled")
"""Of a cluster, for those who may manage it."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads. An `admin` sees every pipeline and manages every cluster; another only what their teams give them.

    `writes_pipelines`: whether the token has that scope too.
    """

    user: str
    admin: bool
    writes_pipelines: bool


def read_access(organization: Organization, reader: Reader, path: Sequence[str]) -> Listing | Outcome:
    """The answer for a path below the organization's own: a listing to take a page of, or one outcome."""
    access = organization.access
    match path:
        case ["pipelines"]:
            return _pipelines(organization, reader)
        case ["teams", team, "pipelines", *ids] if len(ids) < 2:
            if team not in organization.team_members:
                return NO_TEAM
            listing = access.pipelines_of(team)
            if not ids:
                return listing
            item = listing.find(ids[0])
            return NO_TEAM_PIPELINE if item is None else Outcome(200, item)
        case ["clusters", *rest]:
            return _clusters(organization, reader, rest)
    return NOT_FOUND


def _clusters(organization: Organization, reader: Reader, path: Sequence[str]) -> Listing | Outcome:
    access = organization.access
    match path:
        case []:
            shown = [
                _cluster(organization, reader, each, access.listed_maintainers(each["id"]))
                for each in access.clusters.records
            ]
            return Listing("id", shown)
        case [cluster, *rest] if rest in ([], ["maintainers"]):
            found, maintainers = access.clusters.find(cluster), access.cluster_maintainers.get(cluster)
            if found is None or maintainers is None:
                return NO_CLUSTER
            if rest:
                return Listing("id", [_without(each, "name") for each in maintainers.records])
            return Outcome(200, _cluster(organization, reader, found, maintainers.records))
    return NOT_FOUND


def _pipelines(organization: Organization, reader: Reader) -> Listing:
    """The pipelines that the reader sees, with webhooks where they may edit; for most readers the list as it is."""
    listing = organization.access.pipelines
    if reader.admin and not reader.writes_pipelines:
        return listing
    levels = _levels(organization, reader.user)
    seen = [
        each for each in listing.records if reader.admin or each["id"] in levels or each.get("visibility") == "public"
    ]
    if not reader.writes_pipelines:
        return Listing("id", seen)
    return Listing(
        "id",
        [_with_webhook(each) if reader.admin or MANAGE in levels.get(each["id"], ()) else each for each in seen],
    )


def _levels(organization: Organization, user: str) -> dict[str, set[str]]:
    """The levels that a user has through their teams, by pipeline id."""
    levels: dict[str, set[str]] = {}
    for team, roster in organization.team_members.items():
        if find(roster, user):
            for item in organization.access.pipelines_of(team).records:
                levels.setdefault(item["pipeline_id"], set()).add(item["access_level"])
    return levels


def _with_webhook(pipeline: Record) -> Record:
    url = f"https://webhook.buildkite.com/deliver/{WEBHOOK_SECRET}"
    return {**pipeline, "provider": {**pipeline["provider"], "webhook_url": url}}


def _cluster(organization: Organization, reader: Reader, record: Record, listed: Iterable[Record]) -> Record:
    """A cluster with the maintainers that this answer shows."""
    manages = reader.admin or _maintains(organization, reader.user, record["id"])
    shown = {field: value for field, value in record.items() if manages or field not in MANAGED_FIELDS}
    users = [each for each in listed if each["actor"]["type"] == "user"]
    teams = [_without(each, "type") for each in listed if each["actor"]["type"] == "team"]
    return {**shown, "maintainers": {"users": users, "teams": teams}}


def _maintains(organization: Organization, user: str, cluster: str) -> bool:
    maintainers = organization.access.cluster_maintainers.get(cluster)
    for each in maintainers.records if maintainers else ():
        roster = organization.team_members.get(each["actor"]["id"])
        if each["actor"]["id"] == user or (roster is not None and find(roster, user)):
            return True
    return False


def _without(maintainer: Record, field: str) -> Record:
    """The maintainer without a field that this answer does not have of teams; a user's answers have all fields."""
    actor = maintainer["actor"]
    if actor["type"] == "user":
        return maintainer
    return {**maintainer, "actor": {key: value for key, value in actor.items() if key != field}}
