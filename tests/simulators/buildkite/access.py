"""Pipelines, what teams may do with them, clusters and who maintains them: data that tests may edit while it is read.

`access_records` makes the records, `access_reads` says who sees what of them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.buildkite.listing import Listing, Record


@dataclass
class Access:
    """`team_pipelines` by team id, `cluster_maintainers` by cluster id: people and teams, in one list.

    `clusters_list_maintainers`: whether the list of clusters has them too; no page of the documentation says. Where it
    does not, its arrays are empty, and only each cluster's own answer has them.
    """

    pipelines: Listing = field(default_factory=lambda: Listing("id"))
    team_pipelines: dict[str, Listing] = field(default_factory=dict)
    clusters: Listing = field(default_factory=lambda: Listing("id"))
    cluster_maintainers: dict[str, Listing] = field(default_factory=dict)
    clusters_list_maintainers: bool = False

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Access":
        """From what a document has of pipelines, team_pipelines, clusters and cluster_maintainers."""
        maintainers = document.get("cluster_maintainers", {})
        return cls(
            Listing("id", document.get("pipelines", ())),
            {team: Listing("pipeline_id", each) for team, each in document.get("team_pipelines", {}).items()},
            Listing("id", document.get("clusters", ())),
            {each["id"]: Listing("id", maintainers.get(each["id"], ())) for each in document.get("clusters", ())},
        )

    def document(self) -> dict[str, Any]:
        """The keys that `from_document` reads, without those that have nothing."""
        parts: dict[str, Any] = {
            "pipelines": list(self.pipelines.records),
            "team_pipelines": {team: list(each.records) for team, each in self.team_pipelines.items() if each},
            "clusters": list(self.clusters.records),
            "cluster_maintainers": {key: list(each.records) for key, each in self.cluster_maintainers.items()},
        }
        return {key: value for key, value in parts.items() if value}

    def requests_at(self, size: int, kinds: Collection[str], teams: Iterable[str]) -> int:
        """What these kinds cost at so many a page, on top of the accounts and teams."""
        requests = 0
        if "pipeline" in kinds:
            requests += self.pipelines.requests(size)
            if "team" in kinds:
                requests += sum(self.pipelines_of(team).requests(size) for team in teams)
        if "cluster" in kinds:
            requests += self.clusters.requests(size)
            if "user" in kinds or "team" in kinds:
                requests += sum(not self.listed_maintainers(each["id"]) for each in self.clusters.records)
        return requests

    def pipelines_of(self, team: str) -> Listing:
        return self.team_pipelines.get(team) or Listing("pipeline_id")

    def listed_maintainers(self, cluster: str) -> tuple[Record, ...]:
        """The maintainers of a cluster that the list of clusters shows."""
        known = self.cluster_maintainers.get(cluster) if self.clusters_list_maintainers else None
        return tuple(known.records) if known else ()

    def listings(self) -> Iterable[Listing]:
        """Those that are served as they are."""
        return (self.pipelines, *self.team_pipelines.values())

    def forget(self, principal: str) -> None:
        """A user or team that was removed has no access any more."""
        self.team_pipelines.pop(principal, None)
        for roster in self.cluster_maintainers.values():
            for each in roster.records:
                if each["actor"]["id"] == principal:
                    roster.remove(each["id"])

    def add_pipeline(self, pipeline: Mapping[str, Any], at: int | None = None) -> None:
        self.pipelines.insert(pipeline, at)

    def update_pipeline(self, id: str, changes: Mapping[str, Any]) -> None:  # noqa: A002
        self.pipelines.update(id, changes)

    def remove_pipeline(self, id: str, *, from_list: bool = True, from_teams: bool = True) -> None:  # noqa: A002
        """Deletes a pipeline. `from_teams=False`: teams still have it; `from_list=False`: the list still names it."""
        if from_list:
            self.pipelines.remove(id)
        if from_teams:
            for listing in self.team_pipelines.values():
                if listing.find(id):
                    listing.remove(id)

    def move_pipeline(self, id: str, to: int) -> None:  # noqa: A002
        self.pipelines.move(id, to)

    def add_team_pipeline(self, team: str, item: Mapping[str, Any], at: int | None = None) -> None:
        self.team_pipelines.setdefault(team, Listing("pipeline_id")).insert(item, at)

    def update_team_pipeline(self, team: str, pipeline: str, changes: Mapping[str, Any]) -> None:
        self.team_pipelines[team].update(pipeline, changes)

    def remove_team_pipeline(self, team: str, pipeline: str) -> None:
        self.team_pipelines[team].remove(pipeline)

    def move_team_pipeline(self, team: str, pipeline: str, to: int) -> None:
        self.team_pipelines[team].move(pipeline, to)

    def add_cluster(self, cluster: Mapping[str, Any], at: int | None = None) -> None:
        self.clusters.insert(cluster, at)
        self.cluster_maintainers[cluster["id"]] = Listing("id")

    def update_cluster(self, id: str, changes: Mapping[str, Any]) -> None:  # noqa: A002
        self.clusters.update(id, changes)

    def remove_cluster(self, id: str, *, stays_listed: bool = False) -> None:  # noqa: A002
        """Deletes a cluster: its own address answers 404. `stays_listed`: the list still names it."""
        if not stays_listed:
            self.clusters.remove(id)
        del self.cluster_maintainers[id]

    def move_cluster(self, id: str, to: int) -> None:  # noqa: A002
        self.clusters.move(id, to)

    def add_cluster_maintainer(self, cluster: str, maintainer: Mapping[str, Any], at: int | None = None) -> None:
        self.cluster_maintainers[cluster].insert(maintainer, at)

    def remove_cluster_maintainer(self, cluster: str, id: str) -> None:  # noqa: A002
        """`id`: the assignment's."""
        self.cluster_maintainers[cluster].remove(id)

    def list_cluster_maintainers(self, listed: bool) -> None:
        """Sets `clusters_list_maintainers`."""
        self.clusters_list_maintainers = listed
