"""Pipelines and clusters for made organizations of any size: the same ones for the same numbers."""

import random

from simulators.buildkite.access import Access
from simulators.buildkite.access_records import cluster, pipeline, team_maintainer, team_pipeline, user_maintainer
from simulators.buildkite.listing import Listing, Record
from simulators.buildkite.made_organization import draw, made_uuid, sizes_of_teams
from simulators.buildkite.organization import Organization

LEVELS = ("read_only", "build_and_read", "manage_build_and_read")
DESCRIPTIONS: tuple[Record, ...] = ({"description": "Builds <b>all</b> & more"}, {"description": None}, {})
"""A text, null, and none at all."""
CREATED_AT = ("2021-05-06T14:54:21.088Z", "2013-09-03 13:24:38 UTC")
"""Both forms that Buildkite's documentation has."""
PIPELINES_A_TEAM = 3
"""In how many teams a pipeline is on average, unless told."""


def give_access(
    organization: Organization,
    pipelines: int = 0,
    clusters: int = 0,
    team_pipelines: int | None = None,
    seed: int = 0,
) -> Organization:
    """Gives the organization exactly so many pipelines, clusters and pipelines of teams, and returns it.

    Teams have pipelines as unevenly as they have members, so that some pipelines are in no team. Three clusters in four
    have maintainers. Raises ValueError when every pipeline in every team were still too few.
    """
    jitter = random.Random(f"access {seed}")
    slug, teams, members = organization.slug, organization.teams.records, organization.members.records
    most = pipelines * len(teams)
    wanted = min(most, PIPELINES_A_TEAM * pipelines) if team_pipelines is None else team_pipelines
    if wanted > most:
        raise ValueError(f"{wanted} pipelines of teams do not fit {pipelines} pipelines in {len(teams)} teams")
    made_clusters = [
        cluster(slug, made_uuid(jitter), f"Cluster {index} – ops & dev", **DESCRIPTIONS[index % 2])
        for index in range(clusters)
    ]
    made_pipelines = [
        pipeline(
            slug,
            made_uuid(jitter),
            f"pipeline-{index}",
            f"Pipeline {index} :rocket: – ops & dev",
            cluster_id=made_clusters[index % clusters]["id"] if clusters and index % 5 else None,
            created_at=CREATED_AT[index % 2],
            archived_at="2024-02-29T08:00:00.000Z" if index % 20 == 19 else None,
            visibility="public" if index % 10 == 9 else "private",
            **DESCRIPTIONS[index % 3],
        )
        for index in range(pipelines)
    ]
    access = organization.access = Access(Listing("id", made_pipelines), clusters=Listing("id", made_clusters))
    for team, size in zip(teams, sizes_of_teams(pipelines, len(teams), wanted), strict=True):
        items = [
            team_pipeline(slug, made_pipelines[index]["id"], f"pipeline-{index}", LEVELS[place % len(LEVELS)])
            for place, index in enumerate(draw(jitter, pipelines, size))
        ]
        access.team_pipelines[team["id"]] = Listing("pipeline_id", items)
    for index, made in enumerate(made_clusters):
        maintainers: list[Record] = []
        if index % 4 != 3 and members:
            maintainers.append(user_maintainer(made_uuid(jitter), members[index % len(members)]))
        if index % 4 != 3 and teams and index % 2:
            maintainers.append(team_maintainer(made_uuid(jitter), teams[index % len(teams)]))
        access.cluster_maintainers[made["id"]] = Listing("id", maintainers)
    return organization
