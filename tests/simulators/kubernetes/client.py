"""The client and the custom resource that the contract of a Kubernetes API is written with."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx

GROUP = "contract.test"
WIDGETS_PATH = f"/apis/{GROUP}/v1/namespaces/{{}}/widgets"
DEADLINE = 20.0

_STRING = {"type": "string"}
WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wg"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "string", "default": "medium"},
                                    "color": _STRING,
                                    "tags": {"type": "array", "items": _STRING},
                                    "limits": {
                                        "type": "object",
                                        "default": {},
                                        "properties": {
                                            "most": {"type": "integer", "default": 10},
                                            "least": {"type": "integer"},
                                        },
                                    },
                                    "labels": {"type": "object", "additionalProperties": _STRING},
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "count": {"type": "integer"},
                                    "lastSync": {"type": "string", "format": "date-time"},
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {
                                            "type": "object",
                                            "required": ["type"],
                                            "properties": {"type": _STRING, "status": _STRING, "message": _STRING},
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Api:
    """A thin client of a Kubernetes API: what goes over the wire is what the test says."""

    def __init__(self, http: httpx.AsyncClient, namespace: str) -> None:
        self.http = http
        self.widgets = WIDGETS_PATH.format(namespace)
        self.namespace = namespace

    async def create(self, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
        """Create a widget, which must succeed."""
        name = f"w-{uuid4().hex[:8]}"
        response = await self.http.post(self.widgets, json=widget({"name": name, **metadata}, spec=spec or {}))
        return accepted(response, 201)

    async def patch(
        self, name: str, body: Any, content_type: str = MERGE, *, subresource: str = "", **query: str
    ) -> httpx.Response:
        """Patch a widget, or its status."""
        return await self.http.patch(
            f"{self.widgets}/{name}/{subresource}".rstrip("/"),
            content=json.dumps(body),
            headers={"Content-Type": content_type},
            params=query,
        )

    async def apply(
        self, name: str, manager: str, body: dict[str, Any], *, subresource: str = "", force: bool = False
    ) -> httpx.Response:
        """Server-side apply, as this field manager."""
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        return await self.patch(name, widget({"name": name}, **body), APPLY, subresource=subresource, **query)

    async def read(self, name: str) -> dict[str, Any]:
        """The widget as it is."""
        return accepted(await self.http.get(f"{self.widgets}/{name}"), 200)

    async def list(self) -> dict[str, Any]:
        """The list of the namespace's widgets."""
        return accepted(await self.http.get(self.widgets), 200)

    @asynccontextmanager
    async def watch(self, since: str, **query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch on the namespace's widgets."""
        params = {"watch": "true", "resourceVersion": since, **query}
        async with self.http.stream("GET", self.widgets, params=params) as response:
            assert response.status_code == 200
            yield (json.loads(line) async for line in response.aiter_lines())


def widget(metadata: dict[str, Any], **body: Any) -> dict[str, Any]:
    """The manifest of a widget."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": metadata, **body}


def accepted(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The body of an answer with one of these statuses (200 when none is given)."""
    assert response.status_code in (statuses or (200,)), response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: httpx.Response, status: int, reason: str) -> str:
    """The message of a refusal, which must be a proper `Status` object."""
    body = response.json()
    assert response.status_code == status, response.text
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"]) == (status, reason)
    message: str = body["message"]
    return message
