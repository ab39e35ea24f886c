"""Compares the CRD that the cluster serves with the one of this version.

The API server publishes the schema as OpenAPI, which every service account may read; permissions on CRDs are not
needed. A setting that the CRD lacks is silently dropped from a spec, and a status with such a field is rejected.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from buildkite_connector.kubernetes.schema import GROUP, KIND, PLURAL
from buildkite_connector.kubernetes.schema.crd import definition

_SHOWN = 5
_PARTS = ("spec", "status")
_ANYTHING = "x-kubernetes-preserve-unknown-fields"

_logger = logging.getLogger(__name__)


class ServedSchema:
    """The served schema, as far as it is known. `outdated` is a sentence for people, "" while no field is missing."""

    def __init__(self) -> None:
        self._served: Mapping[str, Any] = {_ANYTHING: True}
        self._rejected = False
        self.known = False
        self.outdated = ""

    def learn(self, openapi: Any) -> None:
        """From the API server's OpenAPI document of the group. Logs what changes. Raises on another shape."""
        kinds = [each for each in openapi["components"]["schemas"].values() if _is_ours(each)]
        if not kinds:
            return
        self.known = True
        self._served, needed = kinds[0], _own()["properties"]
        served = self._served.get("properties") or {}
        missing = [path for part in _PARTS for path in _missing(needed[part], served.get(part) or {}, part)]
        self._report(_sentence(missing) if missing else "")

    def rejected(self) -> None:
        """A status was rejected for a field that the CRD lacks, and the schema cannot be read."""
        self._rejected = True
        self._report(_sentence(["a field of the status"]))

    def accepted(self) -> None:
        """A status was written whole."""
        if self._rejected:
            self._rejected = False
            self._report("")

    def _report(self, outdated: str) -> None:
        if outdated and outdated != self.outdated:
            _logger.error(outdated)
        elif self.outdated and not outdated:
            _logger.info("the CRD has all fields now")
        self.outdated = outdated

    def fit(self, status: dict[str, Any]) -> dict[str, Any]:
        """The status without the fields that the CRD lacks; all of it while the schema is not known."""
        fitted: dict[str, Any] = _fitted({"status": status}, self._served).get("status", {})
        return fitted


@cache
def _own() -> Mapping[str, Any]:
    schema: Mapping[str, Any] = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _is_ours(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("x-kubernetes-group-version-kind") or ()
    return any((each["group"], each["kind"]) == (GROUP, KIND) for each in kinds)


def _missing(needed: Mapping[str, Any], served: Mapping[str, Any], path: str) -> Iterator[str]:
    """The fields, and the values of enums, that are needed and not served."""
    if served.get(_ANYTHING):
        return
    if "enum" in served:
        yield from (f"{path}: {value}" for value in needed.get("enum", ()) if value not in served["enum"])
    for name, child in needed.get("properties", {}).items():
        there = served.get("properties", {}).get(name)
        if there is None:
            yield f"{path}.{name}"
        else:
            yield from _missing(child, there, f"{path}.{name}")
    if "items" in needed:
        yield from _missing(needed["items"], served.get("items") or {}, f"{path}[]")


def _fitted(value: Any, served: Mapping[str, Any]) -> Any:
    if served.get(_ANYTHING):
        return value
    if isinstance(value, list):
        return [_fitted(each, served.get("items") or {}) for each in value]
    if not isinstance(value, dict):
        return value
    known = served.get("properties") or {}
    return {name: _fitted(each, known[name]) for name, each in value.items() if name in known}


def _sentence(missing: list[str]) -> str:
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"The CRD {PLURAL}.{GROUP} in the cluster is older than this operator and lacks"
        f" {', '.join(missing[:_SHOWN])}{more}: run `kubectl apply -f crds/` with the files of this version. Until"
        " then, these settings have no effect and these parts of the status are not shown."
    )
