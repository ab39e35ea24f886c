"""In which order, and how often, the process reads Secrets again."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.secret_reads import reread_secrets
from buildkite_connector.model.spec import ConnectorKey
from fakes.virtual_time import VirtualClock, virtual_time


@dataclass
class Fake:
    """A connector whose Secrets are due at `reread_at` and then every `every` seconds. `log`: who was read and when."""

    key: ConnectorKey
    log: list[tuple[str, float]]
    every: float
    reread_at: float | None = 0.0
    secrets: int = 1
    breaks: bool = False

    @property
    def name(self) -> str:
        return self.key.replace(".", "/")

    def reread(self) -> None:
        if self.breaks:
            raise KeyError("nobody has foreseen this")
        now = asyncio.get_running_loop().time()
        self.log.append((self.key, round(now, 3)))
        self.reread_at = now + self.every


@asynccontextmanager
async def reading(*keys: str, every: float = 1e9) -> AsyncIterator[tuple[dict[str, Fake], list[tuple[str, float]]]]:
    log: list[tuple[str, float]] = []
    fakes = {key: Fake(ConnectorKey(key), log, every) for key in keys}
    running = asyncio.create_task(reread_secrets(lambda: cast("list[Connector]", list(fakes.values())), VirtualClock()))
    try:
        yield fakes, log
    finally:
        running.cancel()
        await asyncio.wait({running})


@virtual_time
async def test_what_is_due_is_read_at_a_fifth_of_a_second_from_each_other() -> None:
    async with reading("a.1", "a.2", "a.3") as (_, log):
        await asyncio.sleep(10)
        assert log == [("a.1", 0.0), ("a.2", 0.2), ("a.3", 0.4)]


@virtual_time
async def test_a_connector_with_two_secrets_counts_twice() -> None:
    async with reading("a.1", "a.2", "a.3") as (fakes, log):
        fakes["a.2"].secrets = 2
        await asyncio.sleep(10)
        assert log == [("a.1", 0.0), ("a.2", 0.2), ("a.3", 0.6)]


@virtual_time
async def test_each_is_read_when_it_is_due_or_within_two_seconds() -> None:
    async with reading("a.1", "a.2", every=10.0) as (fakes, log):
        fakes["a.2"].reread_at = None
        await asyncio.sleep(35)
        times = [at for _, at in log]
        assert all(10 <= later - before < 12.01 for before, later in itertools.pairwise(times))
        assert {key for key, _ in log} == {"a.1"}


@virtual_time
async def test_a_namespace_with_few_waits_for_no_more_than_one_of_each_other() -> None:
    many = [f"many.{number}" for number in range(1000)]
    async with reading(*many, "one.1", "two.1", "two.2") as (fakes, log):
        for key in ("one.1", "two.1", "two.2"):
            fakes[key].reread_at = 1e9
        await asyncio.sleep(20.5)
        for key in ("one.1", "two.1", "two.2"):
            fakes[key].reread_at = 20.5
        begun = len(log)
        await asyncio.sleep(4)
        namespaces = [key.partition(".")[0] for key, _ in log[begun:]]
        first = namespaces.index("one")
        assert first <= 2 * 10
        assert namespaces[first - 1 : first + 5] == ["many", "one", "two", "many", "two", "many"]


@virtual_time
async def test_what_is_not_due_any_more_when_its_turn_comes_is_passed_over() -> None:
    async with reading("a.1", "a.2", "a.3") as (fakes, log):
        await asyncio.sleep(0.1)
        fakes["a.2"].reread_at = None
        await asyncio.sleep(10)
        assert log == [("a.1", 0.0), ("a.3", 0.2)]


@virtual_time
async def test_a_process_reads_at_most_five_a_second() -> None:
    async with reading(*(f"{number % 40}.{number}" for number in range(400)), every=1.0) as (_, log):
        await asyncio.sleep(60)
        assert 290 <= len(log) <= 301


@virtual_time
async def test_an_invalid_secret_is_read_again_in_seconds_while_a_thousand_others_in_20_namespaces_wait() -> None:
    many = [f"n{number % 20:02}.{number}" for number in range(1000)]
    async with reading(*many, "z.1", every=50.0) as (fakes, log):
        fakes["z.1"].every = 8.0
        await asyncio.sleep(400)
        times = [at for key, at in log if key == "z.1" and at > 200]
        assert max(later - before for before, later in itertools.pairwise([200.0, *times, 400.0])) < 15
        assert len(log) <= 5 * 400 + 1


@virtual_time
async def test_an_error_of_one_connector_stops_no_other_and_names_it(caplog: pytest.LogCaptureFixture) -> None:
    async with reading("a.1", "a.2", "b.1", every=10.0) as (fakes, log):
        fakes["a.1"].breaks = True
        fakes["b.1"].reread_at = cast("float", "not a time")
        await asyncio.sleep(11)
        assert [key for key, _ in log] == ["a.2", "a.2"]
    assert {each.connector for each in cast("list[Any]", caplog.records)} == {"a/1", "b/1"}
