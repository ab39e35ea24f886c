"""Pipelines, clusters and their access behind the Buildkite simulator: the document."""

import json
from collections import Counter

from buildkite_connector.model.directory import ALL_KINDS, AccessLevel, ResourceKind, SyncScope
from harness.organization import ACCESS_ORG, ACME_ORG, access
from simulators.buildkite.organization import Organization


def test_a_document_survives_reading_and_writing() -> None:
    for path in (ACME_ORG, ACCESS_ORG):
        document = json.loads(path.read_bytes())
        written = Organization.from_document(document).document()
        written["organization"].pop("created_at")
        assert written == document


def test_the_golden_organization_has_what_its_description_says() -> None:
    golden = access(SyncScope(ALL_KINDS))
    pat = next(account.id for account in golden.accounts if account.name == "O'Brien, Pat")
    teams = {each.team for each in golden.memberships if each.account == pat}
    levels = [
        each.level for each in golden.pipeline_access if each.team in teams and each.pipeline == golden.pipelines[0].id
    ]
    assert Counter(levels) == Counter({AccessLevel.BUILD_AND_READ: 1, AccessLevel.MANAGE_BUILD_AND_READ: 1})
    default = [each.maintainer for each in golden.cluster_maintainers if each.cluster == golden.clusters[0].id]
    assert default[0] == pat
    assert default[1] in teams
    assert [account.role for account in golden.accounts].count(None) == 1
    assert [account.role for account in golden.accounts].count("admin") == 1
    reached = {each.pipeline for each in golden.pipeline_access}
    assert [each.slug for each in golden.pipelines if each.id not in reached] == ["nightly-report"]
    assert golden.pipelines[-1].slug == golden.pipelines[-1].name == "hidden-deploys"


def test_a_scope_without_teams_has_no_access_and_no_pipeline_that_only_a_team_names() -> None:
    golden = access(SyncScope(frozenset({ResourceKind.USER, ResourceKind.PIPELINE, ResourceKind.CLUSTER})))
    assert [each.slug for each in golden.pipelines] == ["api", "web", "nightly-report"]
    assert golden.pipeline_access == ()
    assert {each.kind for each in golden.cluster_maintainers} == {ResourceKind.USER}
