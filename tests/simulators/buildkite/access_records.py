"""Pipelines, a team's pipelines, clusters and their maintainers, each record with every field that Buildkite has.

What is heavy or secret in a pipeline has texts that tests can look for: `PIPELINE_SECRETS`, `WEBHOOK_SECRET`.
"""

import base64
from collections.abc import Mapping
from typing import Any

from simulators.buildkite.listing import Record

API = "http://api.buildkite.com/v2/organizations"
"""Addresses in records have http, as the documentation's examples do. Nothing is to be fetched from there."""

ENV_SECRET = "5ec4e7-of-the-env"
STEP_SECRET = "5ec4e7-of-a-step"
CONFIGURATION_SECRET = "5ec4e7-of-the-configuration"
PIPELINE_SECRETS = (ENV_SECRET, STEP_SECRET, CONFIGURATION_SECRET)
"""In every pipeline, whoever reads it."""
WEBHOOK_SECRET = "5ec4e7-of-the-webhook"
"""In the pipelines that the reader may edit, for a token that may write pipelines; otherwise the address is empty."""


def graphql_id(kind: str, id: str) -> str:  # noqa: A002
    return base64.b64encode(f"{kind}---{id}".encode()).decode()


def pipeline(organization: str, id: str, slug: str, name: str, **changes: Any) -> Record:  # noqa: A002
    """A pipeline of the organization with that slug, as the list has it for a token that may only read."""
    url = f"{API}/{organization}/pipelines/{slug}"
    step: Record = {
        "type": "script",
        "name": "Test :white_check_mark:",
        "command": f"API_KEY={STEP_SECRET} script/test.sh",
        "artifact_paths": "results/*",
        "branch_configuration": "main feature/*",
        "env": {"TOKEN": STEP_SECRET},
        "timeout_in_minutes": None,
        "agent_query_rules": [],
    }
    settings = {"trigger_mode": "code", "build_pull_requests": True, "repository": f"{organization}/{slug}"}
    return {
        "id": id,
        "graphql_id": graphql_id("Pipeline", id),
        "url": url,
        "web_url": f"https://buildkite.com/{organization}/{slug}",
        "name": name,
        "slug": slug,
        "repository": f"git@github.com:{organization}/{slug}.git",
        "cluster_id": None,
        "branch_configuration": None,
        "default_branch": "main",
        "skip_queued_branch_builds": False,
        "skip_queued_branch_builds_filter": None,
        "cancel_running_branch_builds": False,
        "cancel_running_branch_builds_filter": None,
        "allow_rebuilds": True,
        "provider": {"id": "github", "webhook_url": "", "settings": settings},
        "builds_url": f"{url}/builds",
        "badge_url": "https://badge.buildkite.com/58b3da999635d0ad2daae5f784e56d264343eb02526f129bfb.svg",
        "created_by": None,
        "created_at": "2021-05-06T14:54:21.088Z",
        "archived_at": None,
        "scheduled_builds_count": 0,
        "running_builds_count": 0,
        "scheduled_jobs_count": 0,
        "running_jobs_count": 0,
        "waiting_jobs_count": 0,
        "visibility": "private",
        "tags": None,
        "env": {"DEPLOY_TOKEN": ENV_SECRET},
        "configuration": f'env:\n  "KEY": "{CONFIGURATION_SECRET}"\nsteps:\n  - command: "script/release.sh"\n',
        "steps": [step],
        **changes,
    }


def team_pipeline(organization: str, id: str, slug: str, level: str, **changes: Any) -> Record:  # noqa: A002
    """The pipeline as one of a team's: it has no name, and its slug only as a part of an address."""
    return {
        "access_level": level,
        "created_at": "2023-12-12T21:57:40.306Z",
        "pipeline_id": id,
        "pipeline_url": f"{API}/{organization}/pipelines/{slug}",
        **changes,
    }


def cluster(organization: str, id: str, name: str, **changes: Any) -> Record:  # noqa: A002
    """A cluster as its maintainers see it, but for the maintainers, which stand apart (`Access`)."""
    url = f"{API}/{organization}/clusters/{id}"
    creator = "3d3c3bf0-7d58-4afe-8fe7-b3017d5504de"
    return {
        "id": id,
        "graphql_id": graphql_id("Cluster", id),
        "default_queue_id": None,
        "name": name,
        "description": None,
        "emoji": ":technologist:",
        "color": "#FFE0F1",
        "url": url,
        "web_url": f"http://buildkite.com/organizations/{organization}/clusters/{id}",
        "queues_url": f"http://buildkite.com/organizations/{organization}/clusters/{id}/queues",
        "default_queue_url": None,
        "created_at": "2023-05-03T04:17:55.867Z",
        "created_by": {
            "id": creator,
            "graphql_id": graphql_id("User", creator),
            "name": "Sam Kim",
            "email": "sam@example.com",
            "avatar_url": "https://www.gravatar.com/avatar/example",
            "created_at": "2013-08-29T10:10:03.000Z",
        },
        "hosted_git_mirror_enabled": False,
        "hosted_container_cache_enabled": False,
        **changes,
    }


def user_maintainer(id: str, member: Mapping[str, Any]) -> Record:  # noqa: A002
    """A maintainer who is that member of the organization. `id`: the assignment's."""
    return {
        "id": id,
        "actor": {
            "id": member["id"],
            "graphql_id": graphql_id("User", member["id"]),
            "name": member["name"],
            "email": member["email"],
            "type": "user",
        },
    }


def team_maintainer(id: str, team: Mapping[str, Any]) -> Record:  # noqa: A002
    """A maintainer that is that team, with all that any answer has of it. `id`: the assignment's."""
    return {
        "id": id,
        "actor": {
            "id": team["id"],
            "graphql_id": team["graphql_id"],
            "name": team["name"],
            "slug": team["slug"],
            "type": "team",
        },
    }
