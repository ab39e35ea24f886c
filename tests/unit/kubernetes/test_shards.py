"""Which shard a connector is in, and that two divisions of the connectors never act at once."""

import asyncio
from collections import Counter

import pytest

from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector, read_resource
from buildkite_connector.kubernetes.shards import Shard, ShardFilter, shard_of, shard_of_pod
from fakes.lease_world import LeaseWorld
from fakes.virtual_time import until, virtual_time


@pytest.mark.parametrize(
    ("namespace", "name", "shards"),
    [("default", "acme", (0, 1, 2, 3)), ("team-a", "acme", (0, 0, 2, 3)), ("team-a", "globex", (0, 1, 2, 0))],
)
def test_the_shard_of_a_connector_is_the_same_in_every_version(
    namespace: str, name: str, shards: tuple[int, ...]
) -> None:
    """A change of these values would move connectors between processes during an upgrade."""
    assert tuple(shard_of(namespace, name, count) for count in (1, 2, 3, 5)) == shards


def test_the_shards_are_about_even() -> None:
    sizes = Counter(shard_of("default", f"team-{number:04}", 4) for number in range(1000))
    assert sorted(sizes) == [0, 1, 2, 3]
    assert 200 <= min(sizes.values()) <= max(sizes.values()) <= 300


def test_a_pod_of_a_stateful_set_has_the_shard_of_its_ordinal() -> None:
    assert shard_of_pod("buildkite-connector-2", 3) == Shard(2, 3)
    assert shard_of_pod("buildkite-connector-10", 12) == Shard(10, 12)


def test_a_pod_beyond_the_shards_is_a_standby_of_one() -> None:
    assert shard_of_pod("buildkite-connector-4", 3) == Shard(1, 3)


def test_without_shards_any_name_will_do() -> None:
    assert shard_of_pod("buildkite-connector-7d4f9-x2x", 1) == Shard()


@pytest.mark.parametrize("pod", ["", "buildkite-connector-7d4f9-x2x", "3"])
def test_a_pod_without_an_ordinal_is_refused(pod: str) -> None:
    with pytest.raises(ValueError, match=r"StatefulSet.*POD_NAME"):
        shard_of_pod(pod, 2)


def test_each_shard_of_each_count_has_a_lease_of_its_own() -> None:
    names = [Shard(index, count).lease("bkc") for count in (1, 2, 3) for index in range(count)]
    assert names == ["bkc", "bkc-0-of-2", "bkc-1-of-2", "bkc-0-of-3", "bkc-1-of-3", "bkc-2-of-3"]


class Heard:
    def __init__(self) -> None:
        self.observed: list[str] = []
        self.forgotten: list[str] = []

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        self.observed.append(resource.name)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        self.forgotten.append(name)


def test_every_connector_reaches_one_shard_and_is_forgotten_by_the_same() -> None:
    heard = [Heard() for _ in range(3)]
    names = [f"team-{number}" for number in range(30)]
    for name in names:
        metadata = {"namespace": "default", "name": name, "uid": name, "generation": 1}
        resource = read_resource({"metadata": metadata, "spec": {"credentialsSecretRef": {"name": "s"}}})
        for index, each in enumerate(heard):
            ShardFilter(each, Shard(index, 3)).observe(resource)
            ShardFilter(each, Shard(index, 3)).forget("default", name, name)
    assert sorted(name for each in heard for name in each.observed) == sorted(names)
    assert [each.observed for each in heard] == [each.forgotten for each in heard]
    assert all(each.observed for each in heard)


@virtual_time
async def test_the_shards_of_one_count_act_side_by_side() -> None:
    world = LeaseWorld()
    for index in range(3):
        world.candidate(Shard(index, 3).lease("lease"), 3).start()
    await asyncio.sleep(5)
    assert len(world.acting) == 3
    await world.close()


@virtual_time
async def test_a_new_count_acts_only_once_the_last_of_the_old_count_has_stopped() -> None:
    world = LeaseWorld()
    old = [world.candidate(Shard(index, 2).lease("lease"), 2) for index in range(2)]
    new = [world.candidate(Shard(index, 3).lease("lease"), 3) for index in range(3)]
    for each in old:
        each.start()
    await asyncio.sleep(5)
    for each in reversed(new):
        each.start()
    await asyncio.sleep(60)
    assert world.acting == [each.name for each in old]
    await old[1].stop()
    await asyncio.sleep(60)
    assert world.acting == [old[0].name]
    await old[0].stop()
    began = world.clock.monotonic()
    await until(lambda: len(world.acting) == 3)
    assert world.clock.monotonic() - began <= 2.0
    await world.close()


@pytest.mark.parametrize("shard", [Shard(), Shard(1, 2)])
def test_a_dead_process_of_another_count_is_waited_for_until_its_lease_has_expired(shard: Shard) -> None:
    @virtual_time
    async def test() -> None:
        world = LeaseWorld()
        dead = world.candidate(shard.lease("lease"), shard.count)
        dead.start()
        await asyncio.sleep(5)
        dead.kill()
        new = world.candidate(Shard(0, 3).lease("lease"), 3)
        new.start()
        await asyncio.sleep(14)
        assert world.acting == []
        await asyncio.sleep(3)
        assert world.acting == [new.name]
        await world.close()

    test()


@virtual_time
async def test_of_two_counts_that_take_their_leases_at_the_same_moment_one_acts() -> None:
    world = LeaseWorld()
    for count in (1, 2):
        candidate = world.candidate(Shard(0, count).lease("lease"), count)
        candidate.network.there = candidate.network.back = 0.05
        candidate.start()
    for _ in range(100):
        await asyncio.sleep(0.05)
        assert len(world.acting) <= 1
    await world.close()


@virtual_time
async def test_a_process_that_comes_back_lets_its_old_lease_go_when_another_count_acts() -> None:
    world = LeaseWorld()
    whole, half = world.candidate(), world.candidate(Shard(0, 2).lease("lease"), 2)
    whole.start()
    await asyncio.sleep(5)
    half.start()
    whole.network.cut = True
    await until(lambda: half.acting)
    whole.network.cut = False
    await asyncio.sleep(5)
    assert world.acting == [half.name]
    assert world.server.holder("lease") == ""
    await world.close()
