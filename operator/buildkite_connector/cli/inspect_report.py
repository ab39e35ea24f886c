"""`inspect`: what a snapshot file holds, as tables for people or JSON for tools."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from buildkite_connector.c1z import Snapshot, read_snapshot
from buildkite_connector.cli.printing import cell, counts_in_camel_case, in_camel_case, print_json, print_rows
from buildkite_connector.model.directory import (
    AccessToken,
    Account,
    AccountDetails,
    Cluster,
    Directory,
    Organization,
    OrganizationRole,
    Pipeline,
    ResourceKind,
    Team,
)

ACCOUNT_FIELDS, DETAILS_FIELDS, TEAM_FIELDS, PIPELINE_FIELDS, CLUSTER_FIELDS, API_TOKEN_FIELDS, ORGANIZATION_FIELDS = (
    tuple(each.name for each in fields(kind) if each.name != "details")
    for kind in (Account, AccountDetails, Team, Pipeline, Cluster, AccessToken, Organization)
)
T = TypeVar("T")


class _Tables:
    """Prints a table for each list; `limit` bounds the rows of each, 0 shows all."""

    def __init__(self, console: Console, limit: int) -> None:
        self._console = console
        self._limit = limit

    def show(
        self, title: str, columns: tuple[str, ...], entries: Sequence[T], cells: Callable[[T], tuple[str, ...]]
    ) -> None:
        print_rows(self._console, title, columns, map(cells, entries), len(entries), self._limit)


def inspect(path: Path, *, as_json: bool, limit: int, console: Console) -> None:
    """Print the snapshot at `path`; `limit` as in `_Tables`. Raises Failure."""
    snapshot = read_snapshot(path)
    if as_json:
        print_json(to_document(snapshot), console)
        return
    console.print(_summary(path, snapshot))
    tables = _Tables(console, limit)
    _show_accounts_and_teams(snapshot.directory, tables)
    _show_access(snapshot.directory, tables)


def _show_accounts_and_teams(directory: Directory, tables: _Tables) -> None:
    names, teams, _ = _names(directory)
    members = Counter(each.team for each in directory.memberships)
    detailed = any(each.details for each in directory.accounts)
    tables.show(
        "Accounts",
        ("Name", "Email", "Role", *(("Type", "Two-factor", "Last active") if detailed else ()), "ID"),
        directory.accounts,
        lambda each: (each.name, each.email, each.role or "", *(_details(each.details) if detailed else ()), each.id),
    )
    tables.show(
        "Teams",
        ("Name", "Slug", "Privacy", "Members", "ID"),
        directory.teams,
        lambda each: (each.name, each.slug, each.privacy, str(members[each.id]), each.id),
    )
    tables.show(
        "Memberships",
        ("Team", "Account", "Role"),
        directory.memberships,
        lambda each: (teams.get(each.team, each.team), names.get(each.account, each.account), each.role),
    )


def _show_access(directory: Directory, tables: _Tables) -> None:
    """What the opt-in resource types of the snapshot hold."""
    scope = directory.scope
    accounts, teams, resources = _names(directory)
    if scope.wants_organization_roles:
        held = _organization_roles(directory)
        tables.show("Organization roles", ("Account", "Role"), held, lambda each: (each.name, each.role or ""))
    if scope.wants_pipelines:
        allowed = Counter(each.pipeline for each in directory.pipeline_access)
        tables.show(
            "Pipelines",
            ("Name", "Slug", "Visibility", "Teams", "ID"),
            directory.pipelines,
            lambda each: (each.name or each.slug, each.slug, each.visibility, str(allowed[each.id]), each.id),
        )
    if scope.wants_pipeline_access:
        tables.show(
            "Pipeline access",
            ("Pipeline", "Team", "Level"),
            directory.pipeline_access,
            lambda each: (resources.get(each.pipeline, each.pipeline), teams.get(each.team, each.team), each.level),
        )
    if scope.wants_clusters:
        maintained = Counter(each.cluster for each in directory.cluster_maintainers)
        tables.show(
            "Clusters",
            ("Name", "Maintainers", "ID"),
            directory.clusters,
            lambda each: (each.name, str(maintained[each.id]), each.id),
        )
    if scope.wants_user_maintainers or scope.wants_team_maintainers:
        principals: dict[str, dict[str, str]] = {ResourceKind.USER: accounts, ResourceKind.TEAM: teams}
        tables.show(
            "Cluster maintainers",
            ("Cluster", "Type", "Maintainer"),
            directory.cluster_maintainers,
            lambda each: (
                resources.get(each.cluster, each.cluster),
                each.kind,
                principals[each.kind].get(each.maintainer, each.maintainer),
            ),
        )
    if scope.wants_api_tokens:
        tables.show(
            "API tokens",
            ("Description", "Owner", "Expires", "Last used", "Scopes", "ID"),
            directory.api_tokens,
            lambda each: (
                each.description,
                accounts.get(each.owner, each.owner) if each.owner else "",
                _moment(each.expires_at, "never"),
                _moment(each.last_used_at, "never"),
                ", ".join(each.scopes),
                each.id,
            ),
        )


def _details(details: AccountDetails | None) -> tuple[str, str, str]:
    """The cells of an account that only a portal fills."""
    if details is None:
        return "", "", ""
    kind, two_factor = "machine" if details.machine else "person", "yes" if details.two_factor else "no"
    return kind, two_factor, _moment(details.last_seen_at, "none known")


def _moment(time: datetime | None, otherwise: str) -> str:
    return otherwise if time is None else f"{time:%Y-%m-%d %H:%M}"


def to_document(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot as plain JSON values; null where Buildkite gave no value.

    What belongs to an opt-in resource type is there where the snapshot covers the type.
    """
    run, directory = snapshot.run, snapshot.directory
    scope = run.scope
    document: dict[str, object] = {
        "syncID": run.sync_id,
        "startedAt": run.started_at.isoformat(),
        "finishedAt": run.ended_at.isoformat(),
        "counts": counts_in_camel_case(run.counts),
        "accounts": [_account(each) for each in directory.accounts],
        "teams": [in_camel_case(each, TEAM_FIELDS) for each in directory.teams],
        "memberships": [in_camel_case(each, ("team", "account", "role")) for each in directory.memberships],
    }
    if scope.wants_organization:
        document["organization"] = in_camel_case(directory.organization, ORGANIZATION_FIELDS)
    if scope.wants_organization_roles:
        document["organizationRoles"] = [
            {"account": each.id, "role": each.role} for each in _organization_roles(directory)
        ]
    if scope.wants_pipelines:
        document["pipelines"] = [in_camel_case(each, PIPELINE_FIELDS) for each in directory.pipelines]
    if scope.wants_pipeline_access:
        document["pipelineAccess"] = [
            in_camel_case(each, ("pipeline", "team", "level")) for each in directory.pipeline_access
        ]
    if scope.wants_clusters:
        document["clusters"] = [in_camel_case(each, CLUSTER_FIELDS) for each in directory.clusters]
    if scope.wants_user_maintainers or scope.wants_team_maintainers:
        document["clusterMaintainers"] = [
            in_camel_case(each, ("cluster", "kind", "maintainer")) for each in directory.cluster_maintainers
        ]
    if scope.wants_api_tokens:
        document["apiTokens"] = [in_camel_case(each, API_TOKEN_FIELDS) for each in directory.api_tokens]
    return document


def _account(account: Account) -> dict[str, object]:
    """With its details, where the file has them."""
    found = in_camel_case(account, ACCOUNT_FIELDS)
    return found | in_camel_case(account.details, DETAILS_FIELDS) if account.details else found


def _summary(path: Path, snapshot: Snapshot) -> Table:
    run = snapshot.run
    table = Table(title=cell(str(path)), show_header=False, title_justify="left")
    table.add_row("Sync", cell(run.sync_id))
    table.add_row("Finished", run.ended_at.isoformat(timespec="seconds"))
    for what, count in run.counts.amounts():
        table.add_row(what[0].upper() + what[1:], str(count))
    return table


def _names(directory: Directory) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The names of accounts, of teams, and of pipelines and clusters, by their ids."""
    return (
        {each.id: each.name or each.id for each in directory.accounts},
        {each.id: each.name for each in directory.teams},
        {
            **{each.id: each.name or each.slug for each in directory.pipelines},
            **{each.id: each.name for each in directory.clusters},
        },
    )


def _organization_roles(directory: Directory) -> list[Account]:
    """The accounts whose organization role is known, administrators first."""
    return [account for role in reversed(OrganizationRole) for account in directory.accounts if account.role == role]
