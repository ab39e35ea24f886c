"""How the Kubernetes simulator speaks HTTP about its objects: paths, verbs, content types, lists and watches."""

import asyncio
import json
import math
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

import kmock
import yaml
from aiohttp import web

from harness.yaml_text import parsed
from simulators.kubernetes.exchange import Exchange, Fault, Target, Watch
from simulators.kubernetes.fields import Manager, Manifest
from simulators.kubernetes.resources import ApiError, Resource
from simulators.kubernetes.rules import selector
from simulators.kubernetes.store import Change, Store

VERBS = ("create", "delete", "get", "list", "patch", "watch")
APPLY_PATCH = "application/apply-patch+yaml"


class ObjectsHandler(kmock.KubernetesScaffold):
    """kmock's handler, with the objects of a store beside the discovery that it has."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._watches: list[tuple[Resource, web.BaseRequest]] = []
        self._faults: list[Fault] = []
        self.transcript: list[Exchange] = []
        for resource in store.resources:
            self._make_discoverable(resource)
        store.on_definition = self._make_discoverable
        store.on_definition_gone = self._hide

    async def __call__(self, raw_request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request: objects from the store, all else (discovery, /version) from kmock."""
        if raw_request.path == "/apis/":  # as some clients write it
            raw_request = raw_request.clone(rel_url="/apis")
        target: Target | None = None
        try:
            self._fail_on_demand(raw_request)
            if (document := self._openapi(raw_request.path)) is not None:
                self._note(raw_request, None, 200)
                return web.json_response(document)
            target = self._target(raw_request.path)
            if target is not None and _is_watch(raw_request):
                stream = self._watch(raw_request, target)
                self._note(raw_request, target, 200)
                return await stream
            response = await (self._answer(raw_request, target) if target else super().__call__(raw_request))
        except ApiError as error:
            response = web.json_response(error.body(), status=error.code)
        except _FaultError as ordered:
            response = ordered.response()
        except ConnectionAbortedError:
            self._note(raw_request, target, None)
            if raw_request.transport is not None:
                raw_request.transport.abort()
            return web.Response()
        self._note(raw_request, target, response.status)
        return response

    def _note(self, request: web.BaseRequest, target: Target | None, status: int | None) -> None:
        named = (target.resource.plural, target.namespace, target.name) if target else ("", "", "")
        self.transcript.append(Exchange(request.method, request.path, status, *named))
        self._store.wake()

    def _fail_on_demand(self, request: web.BaseRequest) -> None:
        for fault in self._faults:
            if fault.hits(request.method, request.path, watch=_is_watch(request)):
                if fault.status is None:
                    raise ConnectionAbortedError
                raise _FaultError(fault)

    def _make_discoverable(self, resource: Resource) -> None:
        info = self.resources[kmock.resource(resource.group, resource.version, resource.plural)]
        info.kind, info.singular, info.namespaced = resource.kind, resource.singular, resource.namespaced
        info.verbs, info.shortnames, info.categories = set(VERBS), set(resource.short_names), set(resource.categories)
        info.subresources = {"status"} if resource.status_subresource else set()

    def _hide(self, resource: Resource) -> None:
        del self.resources[kmock.resource(resource.group, resource.version, resource.plural)]

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Fail requests on demand while the block lasts."""
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)

    def _openapi(self, path: str) -> Manifest | None:
        """The schemas of one group's custom resources, as the API server publishes them; None for another path."""
        match path.strip("/").split("/"):
            case ["openapi", "v3", "apis", group, version]:
                custom = [each for each in self._store.resources if each.custom]
                schemas = {
                    each.kind: {
                        **each.schema,
                        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": each.kind}],
                    }
                    for each in custom
                    if (each.group, each.version) == (group, version)
                }
                return {"openapi": "3.0.0", "components": {"schemas": schemas}}
        return None

    def _target(self, path: str) -> Target | None:
        """What a path names; None when it is discovery or the like, ApiError 404 when it is unknown."""
        match path.strip("/").split("/"):
            case ["api", version, *rest] if rest:
                group = ""
            case ["apis", group, version, *rest] if rest:
                pass
            case _:
                return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] != "status":
            _, namespace, *rest = rest
        plural, name, subresource, *more = [*rest, "", ""]
        resource = self._store.resource(group, version, plural)
        known = not subresource or (subresource == "status" and resource.status_subresource)
        if any(more) or not known or (name and resource.namespaced != bool(namespace)):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return Target(resource, namespace, name, subresource)

    async def _answer(self, request: web.BaseRequest, target: Target) -> web.Response:
        """Answer anything but a watch."""
        match request.method, bool(target.name):
            case "GET", True:
                return web.json_response(self._store.read(target.resource, target.namespace, target.name))
            case "GET", False:
                return web.json_response(self._list(request, target))
            case "POST", False:
                manager = _manager(request, target)
                body = await _body(request)
                with self._dry_run(request):
                    created = self._store.create(target.resource, target.namespace, body, manager)
                return web.json_response(created, status=201)
            case "DELETE", True:
                return web.json_response(self._store.delete(target.resource, target.namespace, target.name))
            case "PATCH", True:
                return await self._update(request, target)
            case _:
                message = "the server does not allow this method on the requested resource"
                raise ApiError(405, "MethodNotAllowed", message)

    async def _update(self, request: web.BaseRequest, target: Target) -> web.Response:
        store, manager, body = self._store, _manager(request, target), await _body(request)
        where = (target.resource, (target.namespace, target.name))
        match request.content_type:
            case "application/merge-patch+json":
                with self._dry_run(request):
                    merged = store.merge(*where, body, manager)
                return web.json_response(merged)
            case content_type if content_type == APPLY_PATCH:
                if "fieldManager" not in request.query:
                    message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value'
                    raise ApiError(422, "Invalid", message)
                existed = store.has(target.resource, target.namespace, target.name)
                force = request.query.get("force", "").lower() in {"true", "1"}
                stored = store.apply(*where, body, manager, force=force)
                return web.json_response(stored, status=200 if existed else 201)
            case content_type:
                message = f"the body of the request was in an unknown format - not supported here: {content_type}"
                raise ApiError(415, "UnsupportedMediaType", message)

    @contextmanager
    def _dry_run(self, request: web.BaseRequest) -> Iterator[None]:
        """With `dryRun=All` everything is checked, and nothing is stored."""
        if request.query.get("dryRun") != "All":
            yield
            return
        backup = self._store.backup()
        try:
            yield
        finally:
            self._store.restore(backup)

    def _list(self, request: web.BaseRequest, target: Target) -> Manifest:
        resource, selected = target.resource, selector(request.query)
        items = [item for item in self._store.objects(resource, target.namespace) if selected(item)]
        kind, api_version = resource.kind, resource.api_version
        if "as=PartialObjectMetadataList" in request.headers.get("Accept", ""):
            kind, api_version = "PartialObjectMetadata", "meta.k8s.io/v1"
            items = [{"kind": kind, "apiVersion": api_version, "metadata": item["metadata"]} for item in items]
        metadata = {"resourceVersion": str(self._store.version)}
        return {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items}

    def _watch(self, request: web.BaseRequest, target: Target) -> Coroutine[Any, Any, web.StreamResponse]:
        """Check a watch at once, and give what streams it.

        It ends when the client leaves, when its `timeoutSeconds` are over, or by `drop_watches`.
        """
        query = request.query
        if "sendInitialEvents" in query:
            message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            raise ApiError(422, "Invalid", message)
        watch = Watch(
            target,
            selector(query),
            since=int(query.get("resourceVersion") or 0),
            seconds=float(query.get("timeoutSeconds") or math.inf),
            bookmarks=query.get("allowWatchBookmarks") == "true",
        )
        return self._stream(request, watch)

    async def _stream(self, request: web.BaseRequest, watch: Watch) -> web.StreamResponse:
        store, now = self._store, asyncio.get_running_loop().time
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        end = now() + watch.seconds
        since = watch.since
        with self._open(watch.target.resource, request):
            await response.prepare(request)
            if 0 < since < store.oldest_version:
                message = f"too old resource version: {since} ({store.oldest_version})"
                await _send(response, "ERROR", ApiError(410, "Expired", message).body())
                return response
            if not since:
                present, since = store.objects(watch.target.resource, watch.target.namespace), store.version
                for manifest in filter(watch.selects, present):
                    await _send(response, "ADDED", manifest)
            bookmark = watch.next_bookmark(now(), end)
            while now() < end:
                for change in store.changes(since):
                    since = change.version
                    if (kind := self._told_as(change, watch)) is not None:
                        await _send(response, kind, change.manifest)
                if watch.target.resource not in store.resources:
                    break  # its definition was deleted
                if now() >= bookmark:
                    await _send(response, "BOOKMARK", _bookmark(watch.target.resource, since))
                    bookmark = watch.next_bookmark(now(), end)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(bookmark, end)):
                        await store.moved()
        return response

    @staticmethod
    def _told_as(change: Change, watch: Watch) -> str | None:
        """An object that comes into a watch's selection is new to it, and one that leaves it is gone."""
        if change.resource != watch.target.resource:
            return None
        was = change.before is not None and watch.selects(change.before)
        if watch.selects(change.manifest) and change.type != "DELETED":
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else None

    @contextmanager
    def _open(self, resource: Resource, request: web.BaseRequest) -> Iterator[None]:
        watch = (resource, request)
        self._watches.append(watch)
        self._store.wake()
        try:
            yield
        finally:
            self._watches.remove(watch)
            self._store.wake()

    def watches(self, resource: Resource) -> int:
        """How many watches of this resource are open."""
        return sum(watched == resource for watched, _ in self._watches)

    def drop_watches(self) -> None:
        """Cut the connection of every watch."""
        for _, request in self._watches:
            if request.transport is not None:
                request.transport.abort()


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    def response(self) -> web.Response:
        status, headers = self._fault.status or 0, dict(self._fault.headers)
        if self._fault.body is not None:
            return web.Response(text=self._fault.body, status=status, headers=headers, content_type="application/json")
        reason = HTTPStatus(status).phrase.replace(" ", "")
        body = ApiError(status, reason, f"a fault on demand: HTTP {status}").body()
        return web.json_response(body, status=status, headers=headers)


def _is_watch(request: web.BaseRequest) -> bool:
    return request.query.get("watch") in {"true", "1"}


async def _send(response: web.StreamResponse, kind: str, manifest: Manifest) -> None:
    await response.write(json.dumps({"type": kind, "object": manifest}).encode() + b"\n")


def _bookmark(resource: Resource, version: int) -> Manifest:
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"resourceVersion": str(version)}}


async def _body(request: web.BaseRequest) -> Any:
    """The parsed body, `{}` when there is none: JSON, or for server-side apply YAML."""
    text = await request.text()
    try:
        if request.content_type == APPLY_PATCH:
            return parsed(text) or {}
        return json.loads(text or "{}") or {}
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, "BadRequest", f"the body cannot be parsed: {error}") from None


def _manager(request: web.BaseRequest, target: Target) -> Manager:
    agent = request.headers.get("User-Agent", "unknown").split("/")[0]
    return Manager(request.query.get("fieldManager") or agent, request.content_type == APPLY_PATCH, target.subresource)
