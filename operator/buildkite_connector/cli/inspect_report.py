"""`inspect`: what a snapshot file holds, as tables for people or JSON for tools."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from buildkite_connector.c1z import Snapshot, read_snapshot
from buildkite_connector.cli.printing import cell, counts_in_camel_case, in_camel_case, print_json, print_rows
from buildkite_connector.model.directory import (
    Account,
    Cluster,
    Directory,
    Organization,
    OrganizationRole,
    Pipeline,
    ResourceKind,
    Team,
)

ACCOUNT_FIELDS, TEAM_FIELDS, PIPELINE_FIELDS, CLUSTER_FIELDS, ORGANIZATION_FIELDS = (
    tuple(each.name for each in fields(kind)) for kind in (Account, Team, Pipeline, Cluster, Organization)
)

Show = Callable[[str, tuple[str, ...], Iterable[tuple[str, ...]], int], None]


def inspect(path: Path, *, as_json: bool, limit: int, console: Console) -> None:
    """Print the snapshot at `path`; `limit` bounds the rows of each table, 0 shows all. Raises Failure."""
    snapshot = read_snapshot(path)
    if as_json:
        print_json(to_document(snapshot), console)
        return

    def show(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], count: int) -> None:
        print_rows(console, title, columns, rows, count, limit)

    console.print(_summary(path, snapshot))
    _show_accounts_and_teams(snapshot.directory, show)
    _show_access(snapshot.directory, show)


def _show_accounts_and_teams(directory: Directory, show: Show) -> None:
    names, teams, _ = _names(directory)
    members = Counter(each.team for each in directory.memberships)
    show(
        "Accounts",
        ("Name", "Email", "Role", "ID"),
        ((each.name, each.email, each.role or "", each.id) for each in directory.accounts),
        len(directory.accounts),
    )
    show(
        "Teams",
        ("Name", "Slug", "Privacy", "Members", "ID"),
        ((each.name, each.slug, each.privacy, str(members[each.id]), each.id) for each in directory.teams),
        len(directory.teams),
    )
    show(
        "Memberships",
        ("Team", "Account", "Role"),
        (
            (teams.get(each.team, each.team), names.get(each.account, each.account), each.role)
            for each in directory.memberships
        ),
        len(directory.memberships),
    )


def _show_access(directory: Directory, show: Show) -> None:
    """What the opt-in resource types of the snapshot hold."""
    scope = directory.scope
    accounts, teams, resources = _names(directory)
    if scope.wants_organization_roles:
        held = _organization_roles(directory)
        show("Organization roles", ("Account", "Role"), ((each.name, each.role or "") for each in held), len(held))
    if scope.wants_pipelines:
        allowed = Counter(each.pipeline for each in directory.pipeline_access)
        show(
            "Pipelines",
            ("Name", "Slug", "Visibility", "Teams", "ID"),
            (
                (each.name or each.slug, each.slug, each.visibility, str(allowed[each.id]), each.id)
                for each in directory.pipelines
            ),
            len(directory.pipelines),
        )
    if scope.wants_pipeline_access:
        show(
            "Pipeline access",
            ("Pipeline", "Team", "Level"),
            (
                (resources.get(each.pipeline, each.pipeline), teams.get(each.team, each.team), each.level)
                for each in directory.pipeline_access
            ),
            len(directory.pipeline_access),
        )
    if scope.wants_clusters:
        maintained = Counter(each.cluster for each in directory.cluster_maintainers)
        show(
            "Clusters",
            ("Name", "Maintainers", "ID"),
            ((each.name, str(maintained[each.id]), each.id) for each in directory.clusters),
            len(directory.clusters),
        )
    if scope.wants_user_maintainers or scope.wants_team_maintainers:
        principals: dict[str, dict[str, str]] = {ResourceKind.USER: accounts, ResourceKind.TEAM: teams}
        show(
            "Cluster maintainers",
            ("Cluster", "Type", "Maintainer"),
            (
                (
                    resources.get(each.cluster, each.cluster),
                    each.kind,
                    principals[each.kind].get(each.maintainer, each.maintainer),
                )
                for each in directory.cluster_maintainers
            ),
            len(directory.cluster_maintainers),
        )


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
        "accounts": [in_camel_case(each, ACCOUNT_FIELDS) for each in directory.accounts],
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
    return document


def _summary(path: Path, snapshot: Snapshot) -> Table:
    run = snapshot.run
    table = Table(title=cell(str(path)), show_header=False, title_justify="left")
    table.add_row("Sync", cell(run.sync_id))
    table.add_row("Finished", run.ended_at.isoformat(timespec="seconds"))
    for what, count in run.counts.amounts():
        table.add_row(what.capitalize(), str(count))
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
