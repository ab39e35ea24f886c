"""A new leader begins from the newest statuses, which its watch may not have reported yet."""

import asyncio
from typing import Any

from buildkite_connector.kubernetes.client import Listed, Listing
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, read_resource
from buildkite_connector.kubernetes.sightings import Sightings
from fakes.virtual_time import virtual_time


class Heard:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        self.heard.append(resource.name)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self.heard.append(f"not {name}")


def seen(name: str, version: int) -> ObservedConnector | BrokenConnector:
    metadata: dict[str, Any] = {"namespace": "default", "name": name, "uid": name, "generation": 1}
    metadata["resourceVersion"] = str(version)
    return read_resource({"metadata": metadata, "spec": {"credentialsSecretRef": {"name": "s"}}})


def listing(**versions: int) -> Any:
    async def list_now() -> Listing:
        return Listing(tuple(Listed("default", name, name, str(version)) for name, version in versions.items()))

    return list_now


@virtual_time
async def test_what_was_seen_in_the_newest_version_is_not_waited_for() -> None:
    sightings = Sightings(Heard())
    sightings.observe(seen("acme", 7))
    assert await sightings.catch_up(listing(acme=7), 0.0)
    assert await sightings.catch_up(listing(acme=6), 0.0)
    assert await sightings.catch_up(listing(), 0.0)


@virtual_time
async def test_a_newer_version_is_waited_for() -> None:
    heard = Heard()
    sightings = Sightings(heard)
    sightings.observe(seen("acme", 6))
    catching_up = asyncio.create_task(sightings.catch_up(listing(acme=7, globex=3), 5.0))
    await asyncio.sleep(1)
    sightings.observe(seen("acme", 7))
    await asyncio.sleep(1)
    assert not catching_up.done()
    sightings.observe(seen("globex", 4))
    assert await catching_up
    assert heard.heard == ["acme", "acme", "globex"]


@virtual_time
async def test_one_that_is_deleted_meanwhile_is_not_waited_for() -> None:
    sightings = Sightings(Heard())
    sightings.observe(seen("acme", 6))
    catching_up = asyncio.create_task(sightings.catch_up(listing(acme=7), 5.0))
    await asyncio.sleep(1)
    sightings.forget("default", "acme", "acme")
    assert await catching_up


@virtual_time
async def test_a_watch_that_stays_behind_is_waited_for_only_so_long() -> None:
    sightings = Sightings(Heard())
    sightings.observe(seen("acme", 6))
    began = asyncio.get_running_loop().time()
    assert not await sightings.catch_up(listing(acme=7), 5.0)
    assert asyncio.get_running_loop().time() - began == 5.0
