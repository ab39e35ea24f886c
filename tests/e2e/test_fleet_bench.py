"""The bench of many connectors, with a few: that it measures, not how fast they are."""

import pytest

from bench.fleet.run import measure_fleet
from harness.control_plane import find_assets, missing_assets


async def test_a_few_connectors_are_measured_from_start_to_reaction() -> None:
    assets = find_assets()
    if assets is None:
        pytest.skip(missing_assets() or "an API server that keeps an audit log is needed")
    told: list[str] = []
    measured = await measure_fleet(assets, 9, 2.0, told.append, in_c1=True)
    assert measured.start.all_ready > measured.start.first_ready > 0
    assert measured.start.writes_until_ready[1] >= 1
    assert measured.start.events == (2.0, 2)
    assert measured.start.hellos_at_once >= 1
    assert (measured.idle.writes, measured.idle.rest_requests) == (0, 0)
    assert measured.idle.memory > 20_000_000
    assert {what: reaction.tries for what, reaction in measured.reactions.items()} == {
        "annotation": 1,
        "edit": 1,
        "Secret": 1,
    }
    assert measured.restart.failures == {}
    assert measured.busy.syncs == 3
    assert measured.busy.reactions.keys() == measured.reactions.keys()
    assert measured.violations == 0
    assert told
