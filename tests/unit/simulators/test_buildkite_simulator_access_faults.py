"""The Buildkite simulator's faults meet the calls for pipelines and clusters, each one alone."""

import httpx
import pytest

from simulators.buildkite import faults
from simulators.buildkite.faults import Effect
from simulators.buildkite.quota import Limits
from unit.simulators.buildkite_access import LISTS, SCOPES, serving

ANSWERS: dict[int, Effect] = {
    403: faults.answer(403, {"message": "Your IP address is not in the allowlist"}),
    404: faults.answer(404, {"message": "Not Found"}),
    429: faults.answer(429, {"message": "no"}),
    503: faults.unavailable(0),
}


@pytest.mark.parametrize("path", SCOPES)
async def test_a_refusal_meets_one_call_alone(path: str) -> None:
    async with serving() as (sim, client):
        for status, effect in ANSWERS.items():
            sim.fault(effect, path=f"/v2{path}")
            answers = {each: (await client.get(each)).status_code for each in SCOPES}
            assert answers == {each: status if each == path else 200 for each in SCOPES}


@pytest.mark.parametrize("path", SCOPES)
async def test_every_call_counts_against_the_quota(path: str) -> None:
    async with serving() as (sim, client):
        sim.quota.limits = Limits(user=1)
        assert [(await client.get(path)).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("path", SCOPES)
async def test_an_answer_can_go_on_for_ever(path: str) -> None:
    async with serving() as (sim, client):
        sim.fault(faults.endless(), path=f"/v2{path}")
        size = 0
        async with client.stream("GET", path) as answer:
            assert "Content-Length" not in answer.headers
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > 2_000_000:
                    break
        assert (await client.get(path)).status_code == 200


async def test_stopping_ends_an_endless_answer() -> None:
    async with serving() as (sim, client):
        sim.fault(faults.endless())
        async with client.stream("GET", LISTS[0]) as answer:
            await sim.stop()
            with pytest.raises(httpx.TransportError):
                await answer.aread()
        assert sim.transcript.in_flight == 0


@pytest.mark.parametrize("path", LISTS)
async def test_a_link_can_lead_elsewhere_and_an_id_upwards(path: str) -> None:
    async with serving() as (sim, client):
        sim.fault(faults.links_elsewhere("https://elsewhere.example"), path=f"/v2{path}")
        links = (await client.get(path, params={"per_page": 1})).links
        assert links["next"]["url"].startswith("https://elsewhere.example/v2/")
        key = "pipeline_id" if "/teams/" in path else "id"
        sim.fault(faults.set_field(key, ".."), path=f"/v2{path}")
        assert (await client.get(path)).json()[0][key] == ".."
        assert ".." not in {each[key] for each in (await client.get(path)).json()}
