"""The cache of the resources, in virtual time: what a relist finds, and what readiness and a new leader wait for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import kopf
import pytest

from buildkite_connector.kubernetes.client import KubernetesApi, Listed, Listing
from buildkite_connector.kubernetes.connection import ApiError
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.resource import ObservedResource
from buildkite_connector.model.failure import Failure, Reason
from fakes.log_lines import lines
from fakes.virtual_time import virtual_time

RELIST = 300.0
SETTINGS = WatchSettings(("team-a", "team-b"), "a=b")


class Heard:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def observe(self, resource: ObservedResource) -> None:
        self.heard.append(resource.name)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        assert (namespace, uid) == ("default", name)
        self.heard.append(f"not {name}")


def event(name: str, version: int, kind: str = "MODIFIED") -> kopf.RawEvent:
    metadata: dict[str, Any] = {"namespace": "default", "name": name, "uid": name, "generation": 1}
    metadata["resourceVersion"] = str(version)
    body = {"metadata": metadata, "spec": {"credentialsSecretRef": {"name": "s"}}}
    return cast(kopf.RawEvent, {"type": kind, "object": body})


def listing(at: int = 0, **versions: int) -> Listing:
    objects = (Listed("default", name, name, str(version)) for name, version in versions.items())
    return Listing(tuple(objects), str(at or max(versions.values(), default=0)))


class Scene:
    """An informer whose relists get what `lists` gives; `anew`: how often kopf was made to begin anew."""

    def __init__(self) -> None:
        self.handler = Heard()
        self.ready = asyncio.Event()
        self.informer = Informer(self.handler.observe, self.handler.forget, self.ready)
        self.lists: Callable[[], Awaitable[Listing]] = lambda: self.give(listing())
        self.anew = 0
        self.listed_at: list[float] = []

    async def give(self, answer: Listing) -> Listing:
        return answer

    def see(self, name: str, version: int, kind: str = "MODIFIED") -> None:
        self.informer.on_event(event(name, version, kind))

    async def list_connectors(self, namespaces: tuple[str, ...], selector: str) -> Listing:
        assert (namespaces, selector) == (SETTINGS.namespaces, SETTINGS.selector)
        self.listed_at.append(asyncio.get_running_loop().time())
        return await self.lists()

    def _begin_anew(self) -> None:
        self.anew += 1

    @asynccontextmanager
    async def relisting(self) -> AsyncIterator[asyncio.Task[None]]:
        api = cast(KubernetesApi, self)
        relisting = asyncio.create_task(self.informer.relist_regularly(api, SETTINGS, self._begin_anew))
        yield relisting
        relisting.cancel()
        await asyncio.wait({relisting})


class TestRelist:
    @virtual_time
    async def test_what_was_deleted_while_the_watch_was_interrupted_is_forgotten(self) -> None:
        scene = Scene()
        scene.see("acme", 1)
        scene.see("stays", 2)
        scene.lists = lambda: scene.give(listing(stays=2))
        async with scene.relisting():
            await asyncio.sleep(RELIST + 1)
        assert scene.handler.heard == ["acme", "stays", "not acme"]

    @virtual_time
    async def test_what_is_made_while_the_list_is_under_way_is_kept(self) -> None:
        scene, asked, answer = Scene(), asyncio.Event(), asyncio.Event()
        scene.see("acme", 1)

        async def slow() -> Listing:
            asked.set()
            await answer.wait()
            return listing(acme=1)

        scene.lists = slow
        async with scene.relisting():
            await asked.wait()
            scene.see("late", 2, "ADDED")
            answer.set()
            await asyncio.sleep(1)
        assert scene.handler.heard == ["acme", "late"]

    @virtual_time
    async def test_it_comes_at_once_after_kopf_has_listed(self) -> None:
        scene = Scene()
        scene.see("acme", 1)
        async with scene.relisting():
            await asyncio.sleep(1)
            scene.informer.relist_soon()
            await asyncio.sleep(1)
        assert scene.handler.heard == ["acme", "not acme"]

    @pytest.mark.parametrize("listed", [{"acme": 2}, {"acme": 1, "never": 2}])
    @virtual_time
    async def test_a_watch_that_reports_nothing_for_an_interval_is_stale(self, listed: dict[str, int]) -> None:
        scene = Scene()
        scene.see("acme", 1)
        scene.lists = lambda: scene.give(listing(**listed))
        async with scene.relisting() as relisting:
            await asyncio.sleep(RELIST + 1)
            for _ in range(5):  # as kopf lists again and again while its watch breaks off
                scene.informer.relist_soon()
                await asyncio.sleep(1)
            assert not relisting.done()
            await asyncio.sleep(RELIST)
            with pytest.raises(Failure) as caught:
                relisting.result()
        assert caught.value.reason is Reason.KUBERNETES_UNAVAILABLE
        assert caught.value.message == (
            "The watch of buildkiteconnectors is lost, the operator must restart:"
            f" default/{'never' if 'never' in listed else 'acme'} changed, and the watch did not report it"
        )

    @virtual_time
    async def test_a_watch_that_lags_behind_an_object_that_changes_all_the_time_is_not_stale(self) -> None:
        scene = Scene()
        version = 1

        async def newer() -> Listing:
            return listing(acme=version + 1)

        scene.lists = newer
        async with scene.relisting() as relisting:
            for version in range(2, 10):
                scene.see("acme", version)
                await asyncio.sleep(RELIST)
            assert not relisting.done()

    @virtual_time
    async def test_a_watch_is_stale_after_one_interval(self) -> None:
        scene = Scene()
        scene.lists = lambda: scene.give(listing(never=2))
        async with scene.relisting() as relisting:
            await asyncio.sleep(2 * RELIST + 1)
            assert relisting.done()
            assert isinstance(relisting.exception(), Failure)

    @pytest.mark.parametrize("back", [listing(5, acme=4), listing(9, acme=3)], ids=["the cluster", "an object"])
    @virtual_time
    async def test_a_cluster_that_was_set_back_is_begun_anew(
        self, back: Listing, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = Scene()
        scene.see("late", 8)
        scene.see("acme", 4)
        scene.lists = lambda: scene.give(back)
        async with scene.relisting():
            await asyncio.sleep(RELIST + 1)
            assert scene.handler.heard == ["late", "acme", "not late", "not acme"]
            assert scene.anew == 1
            scene.see("acme", int(back.objects[0].resource_version))
            await asyncio.sleep(RELIST)
        assert scene.anew == 1
        assert lines(caplog.records) == [
            (
                logging.WARNING,
                "the cluster was set back, as by a restore of etcd: every resource starts again",
                {"version": back.version},
            )
        ]

    @virtual_time
    async def test_a_cluster_without_objects_that_is_set_back_twice_is_begun_anew_twice(self) -> None:
        scene = Scene()
        async with scene.relisting() as relisting:
            for version, anew in ((9, 0), (7, 1), (8, 1), (8, 1), (6, 2), (9, 2)):
                scene.lists = lambda at=version: scene.give(listing(at))  # type: ignore[misc]
                scene.informer.relist_soon()
                await asyncio.sleep(1)
                assert scene.anew == anew
            assert not relisting.done()

    @virtual_time
    async def test_a_list_that_fails_changes_nothing_and_a_missing_crd_is_looked_for(self) -> None:
        scene = Scene()
        scene.see("acme", 1)
        scene.ready.set()
        for status, anew in ((403, 0), (404, 1)):

            async def refuse(status: int = status) -> Listing:
                raise ApiError(status, "no")

            scene.lists = refuse
            async with scene.relisting() as relisting:
                await asyncio.sleep(RELIST + 1)
                assert not relisting.done()
            assert (scene.handler.heard, scene.anew) == (["acme"], anew)

    @virtual_time
    async def test_a_list_that_fails_is_tried_again_soon_and_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene()
        scene.ready.set()
        errors = [ApiError(500, "no"), Failure(Reason.KUBERNETES_UNAVAILABLE, "cut"), None, ApiError(500, "again")]

        async def fail_at_times() -> Listing:
            if errors and (error := errors.pop(0)) is not None:
                raise error
            return listing()

        scene.lists = fail_at_times
        async with scene.relisting():
            scene.informer.relist_soon()
            await asyncio.sleep(11)
            began = scene.listed_at[0]
            assert [each - began for each in scene.listed_at] == [0, 5, 10]
            await asyncio.sleep(RELIST + 10)
            assert [each - began for each in scene.listed_at] == [0, 5, 10, 10 + RELIST, 15 + RELIST]
        assert [(level, text, str(fields["error"])) for level, text, fields in lines(caplog.records)] == [
            (logging.WARNING, "the resources could not be listed again", str(ApiError(500, "no"))),
            (logging.WARNING, "the resources could not be listed again", str(ApiError(500, "again"))),
        ]

    @virtual_time
    async def test_a_list_that_fails_at_the_start_is_not_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """kopf's own list fails as well, and says so."""
        scene = Scene()

        async def refuse() -> Listing:
            raise ApiError(404, "no such resource")

        scene.lists = refuse
        async with scene.relisting():
            scene.informer.relist_soon()
            await asyncio.sleep(11)
            assert (len(scene.listed_at), scene.anew) == (3, 0)
            scene.ready.set()
            await asyncio.sleep(5)
            assert scene.anew == 1
        assert caplog.records == []

    @virtual_time
    async def test_a_crd_that_is_gone_takes_its_objects_along_and_what_was_waited_for(self) -> None:
        scene = Scene()
        scene.see("acme", 1)
        scene.lists = lambda: scene.give(listing(acme=1, never=2))
        async with scene.relisting() as relisting:
            scene.informer.relist_soon()
            await asyncio.sleep(1)
            scene.informer.forget_all()
            assert scene.handler.heard == ["acme", "not acme"]
            scene.see("acme", 3)
            scene.lists = lambda: scene.give(listing(acme=3, never=4))
            await asyncio.sleep(RELIST + 10)
            assert not relisting.done(), "made anew, it has an interval of its own"


class TestReady:
    @virtual_time
    async def test_as_soon_as_the_last_object_of_the_start_was_seen(self) -> None:
        scene = Scene()
        scene.lists = lambda: scene.give(listing(acme=1, deleted=2))
        async with scene.relisting():
            scene.informer.relist_soon()
            await asyncio.sleep(1)
            scene.see("deleted", 2, "DELETED")
            assert not scene.ready.is_set()
            scene.see("acme", 1)
            assert scene.ready.is_set()
        assert scene.handler.heard == ["not deleted", "acme"]

    @virtual_time
    async def test_once_each_object_of_the_start_was_seen_or_is_gone(self) -> None:
        scene = Scene()
        scene.lists = lambda: scene.give(listing(acme=1, deleted=2, missed=3))
        async with scene.relisting():
            scene.see("acme", 1)
            assert not scene.ready.is_set()
            scene.informer.relist_soon()
            await asyncio.sleep(1)
            scene.see("deleted", 2, "DELETED")
            assert not scene.ready.is_set()
            scene.lists = lambda: scene.give(listing(4, acme=1))
            scene.informer.relist_soon()
            await asyncio.sleep(1)
            assert scene.ready.is_set()

    @virtual_time
    async def test_though_a_list_fails_once(self) -> None:
        scene = Scene()

        async def refuse() -> Listing:
            scene.lists = lambda: scene.give(listing())
            raise ApiError(500, "no")

        scene.lists = refuse
        async with scene.relisting():
            scene.informer.relist_soon()
            await asyncio.sleep(10)
            assert scene.ready.is_set()


class TestCatchUp:
    """A new leader begins from the newest statuses, which its watch may not have reported yet."""

    @virtual_time
    async def test_what_was_seen_in_the_newest_version_is_not_waited_for(self) -> None:
        scene = Scene()
        scene.see("acme", 7)
        for versions in ({"acme": 7}, {"acme": 6}, {}):
            assert await scene.informer.catch_up(lambda found=versions: scene.give(listing(**found)), 0.0)  # type: ignore[misc]

    @virtual_time
    async def test_a_newer_version_is_waited_for(self) -> None:
        scene = Scene()
        scene.see("acme", 6)
        catching_up = asyncio.create_task(
            scene.informer.catch_up(lambda: scene.give(listing(acme=7, globex=3)), seconds=5.0)
        )
        await asyncio.sleep(1)
        scene.see("acme", 7)
        await asyncio.sleep(1)
        assert not catching_up.done()
        scene.see("globex", 4)
        assert await catching_up

    @pytest.mark.parametrize("amid_the_list", [True, False])
    @virtual_time
    async def test_one_that_is_deleted_meanwhile_is_not_waited_for(self, amid_the_list: bool) -> None:
        scene = Scene()
        scene.see("acme", 6)

        async def slow() -> Listing:
            await asyncio.sleep(2 if amid_the_list else 0)
            return listing(acme=7)

        catching_up = asyncio.create_task(scene.informer.catch_up(slow, 5.0))
        await asyncio.sleep(1)
        scene.see("acme", 7, "DELETED")
        assert await catching_up

    @virtual_time
    async def test_a_watch_that_stays_behind_is_waited_for_only_so_long(self) -> None:
        scene = Scene()
        scene.see("acme", 6)
        began = asyncio.get_running_loop().time()
        assert not await scene.informer.catch_up(lambda: scene.give(listing(acme=7)), 5.0)
        assert asyncio.get_running_loop().time() - began == 5.0


@virtual_time
async def test_nothing_is_kept_of_what_is_gone() -> None:
    scene = Scene()
    assert await scene.informer.catch_up(lambda: scene.give(listing()), 0.0)
    for number in range(100):
        scene.see(f"acme-{number}", number + 1)
        scene.see(f"acme-{number}", number + 1, "DELETED")
    assert "acme-" not in repr(vars(scene.informer))
