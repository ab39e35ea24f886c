"""What a Kubernetes API makes of a manifest that was sent to it, and of selectors of labels: pure rules."""

import base64
import copy
import json
import re
from collections.abc import Callable, Mapping

from simulators.kubernetes.fields import ROOT_FIELDS, Manifest, fields, pruned, with_defaults
from simulators.kubernetes.resources import EVENTS, SECRETS, ApiError, Resource, refusal

# What a client may set of an object's metadata after its creation.
CLIENT_METADATA = frozenset({"labels", "annotations", "ownerReferences"})
_EVENT_FIELDS = ("eventTime", "reportingController", "reportingInstance", "action", "reason")
_MISMATCH = {"apiVersion": (400, "BadRequest"), "kind": (422, "Invalid")}
_TERM = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no_key>[\w./-]+)"
    r"|(?P<key>[\w./-]+)\s*(?:(?P<operator>==?|!=)\s*(?P<value>[\w.-]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[\w\s,.-]*)\))?)\s*(?:,|$)"
)


def settled(resource: Resource, manifest: Manifest) -> Manifest:
    """A manifest as it is stored: an own copy with identity, defaults, no unknown fields."""
    known = pruned(copy.deepcopy(manifest), resource.schema, always=ROOT_FIELDS)
    new: Manifest = with_defaults(known, resource.schema)
    if resource == SECRETS:
        new = {"type": "Opaque", **new, "data": _secret_data(new)}
        new.pop("stringData", None)
    return {**new, "apiVersion": resource.api_version, "kind": resource.kind}


def check_identity(resource: Resource, namespace: str, name: str, manifest: Manifest) -> None:
    """Refuse a manifest that is of another kind or namespace than the path that it was sent to."""
    metadata = manifest.get("metadata") or {}
    for field, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        sent = manifest.get(field)
        if sent != expected and (resource.custom or sent is not None):
            problem = f"is invalid: {field}: Invalid value: {json.dumps(sent)}: must be {expected}"
            raise refusal(*_MISMATCH[field], resource, name, problem)
    if metadata.get("namespace") and metadata["namespace"] != namespace:
        message = "the namespace of the provided object does not match the namespace sent on the request"
        raise ApiError(400, "BadRequest", message)


def check_event(name: str, event: Manifest) -> None:
    """Refuse an event that lacks what events.k8s.io/v1 demands."""
    problems = [f"{field}: Required value" for field in _EVENT_FIELDS if not event.get(field)]
    if event.get("type") not in {"Normal", "Warning"}:
        problems.append('type: Invalid value: "": has invalid value')
    if problems:
        raise refusal(422, "Invalid", EVENTS, name, f"is invalid: {', '.join(problems)}")


def _secret_data(manifest: Manifest) -> dict[str, str]:
    data, plain = manifest.get("data") or {}, manifest.get("stringData") or {}
    try:
        for value in data.values():
            base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"Secret in version v1 cannot be handled: {error}") from None
    return data | {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}


def check_declared(resource: Resource, manifest: Manifest) -> None:
    """Server-side apply prunes nothing: it refuses a field that the schema does not know."""
    known = pruned(manifest, resource.schema, always=ROOT_FIELDS)
    unknown = fields(manifest, resource.schema).keys() - fields(known, resource.schema).keys()
    if unknown:
        field = "".join(f".{step}" for step in min(unknown, key=len))
        raise ApiError(500, "", f"failed to create typed patch object: {field}: field not declared in schema")


def specified(resource: Resource, manifest: Manifest) -> Manifest:
    """What a generation counts: all but metadata and, where it is a subresource, the status."""
    ignored = {"metadata", "status"} if resource.status_subresource else {"metadata"}
    return {key: value for key, value in manifest.items() if key not in ignored}


def ownable(resource: Resource, manifest: Manifest, subresource: str | None) -> Manifest:
    """The fields that have owners, of one subresource ("" is the main resource) or, with None, of all."""
    if subresource == "status":
        return {"status": manifest["status"]} if "status" in manifest else {}
    out = {key: value for key, value in manifest.items() if key not in ROOT_FIELDS}
    if subresource is not None and resource.status_subresource:
        out.pop("status", None)
    metadata = manifest.get("metadata") or {}
    owned = {key: value for key, value in metadata.items() if key in CLIENT_METADATA}
    return {**out, "metadata": owned} if owned else out


def selector(query: Mapping[str, str]) -> Callable[[Manifest], bool]:
    """What `labelSelector` asks for; ApiError 400 for what the simulator does not understand."""
    if "fieldSelector" in query:
        raise ApiError(400, "BadRequest", "the simulator knows no field selectors")
    terms = _label_terms(query.get("labelSelector", ""))
    return lambda manifest: all(term(manifest["metadata"].get("labels") or {}) for term in terms)


def _label_terms(text: str) -> list[Callable[[Mapping[str, str]], bool]]:
    terms, at = [], 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise ApiError(400, "BadRequest", f"unable to parse requirement: {text[at:]}")
        terms.append(_label_term(match))
        at = match.end()
    return terms


def _label_term(match: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    key, operator, value = match["key"], match["operator"] or match["set"], match["value"]
    if match["absent"]:
        return lambda labels: match["no_key"] not in labels
    if operator is None:
        return lambda labels: key in labels
    values = {value} if value is not None else {each.strip() for each in match["values"].split(",")}
    if operator in {"!=", "notin"}:
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values
