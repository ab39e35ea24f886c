"""What a request of the simulated C1's REST API may hold, to the letter, and how the API says no."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulators.c1.apps import Json
from simulators.c1.token import RestClient

SMALLEST_PAGE, USUAL_PAGE, LARGEST_PAGE = 10, 25, 100
PAGE = ("page_size", "page_token")
RESERVED = "c1/"
MOST_ANNOTATIONS, LONGEST_VALUE, ANNOTATION_BYTES = 16, 256, 4096
ANNOTATION_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,127}")
URL_SAFE = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 6, 429: 8, 501: 12, 503: 14}
"""google.rpc's code for each HTTP status."""


class RestError(Exception):
    """An answer that is a google.rpc.Status. `violation`: the client broke the contract."""

    def __init__(self, status: int, message: str, *, violation: bool = False, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.violation = violation
        self.code = CODES[status] if code is None else code

    def json(self) -> Json:
        return {"code": self.code, "message": self.message, "details": []}


def invalid(message: str) -> RestError:
    return RestError(400, message, violation=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, checked: who asks, the path's IDs, the query and the body, which holds no nulls."""

    who: RestClient
    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Json


STRINGS = [str]
MAP = {"*": str}
"""Any names, each with a string."""
REFS = [{"appId": str, "id": str}]
EXPAND_MASK = {"paths": STRINGS}
MATCHING = tuple(f"APP_USER_IDENTITY_MATCHING_{each}" for each in ("UNSPECIFIED", "STRICT", "DISPLAY_NAME", "CUSTOM"))

CREATE_APP: Json = {
    "displayName": str,
    "description": str,
    "instructions": str,
    "annotations": MAP,
    "owners": STRINGS,
    "appEntitlementOwnerRefs": REFS,
    "certifyPolicyId": str,
    "grantPolicyId": str,
    "revokePolicyId": str,
    "identityMatching": MATCHING,
    "monthlyCostUsd": int,
    "strictAccessEntitlementProvisioning": bool,
    "matchBatonRef": {"appId": str, "connectorId": str, "externalId": str},
}
UPDATE_APP: Json = {
    "app": {"displayName": str, "description": str, "instructions": str, "annotations": MAP, "id": str},
    "updateMask": str,
}
CREATE_CONNECTOR: Json = {
    "catalogId": str,
    "displayName": str,
    "description": str,
    "userIds": STRINGS,
    "appEntitlementOwnerRefs": REFS,
    "appManagedStateBindingRef": {"appId": str, "resourceTypeId": str, "resourceId": str},
    "expandMask": EXPAND_MASK,
}
CREATE_CREDENTIAL: Json = {"appId": str, "connectorId": str}


def read_body(raw: bytes, content_type: str, shape: Json) -> Json:
    """The body, without its nulls; an absent one is empty. Raises RestError."""
    if not raw:
        return {}
    if content_type != "application/json":
        raise invalid("content-type: expected application/json")
    try:
        body = json.loads(raw)
    except ValueError:
        raise invalid("body: expected JSON") from None
    checked: Json = _checked(body, shape, "body")
    return checked


def _checked(value: Any, shape: Any, where: str) -> Any:
    if isinstance(shape, dict):
        return _object(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise invalid(f"{where}: expected a list")
        return [_checked(each, shape[0], f"{where}[{index}]") for index, each in enumerate(value)]
    if isinstance(shape, tuple):
        if value not in shape:
            raise invalid(f"{where}: expected one of {', '.join(shape)}")
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        raise invalid(f"{where}: expected {shape.__name__}")
    return value


def _object(value: Any, shape: Json, where: str) -> Json:
    if not isinstance(value, dict):
        raise invalid(f"{where}: expected an object")
    unknown = value.keys() - shape.keys()
    if unknown and "*" not in shape:
        raise invalid(f"{where}: unknown field {min(unknown)}")
    return {
        name: _checked(each, shape.get("*") or shape[name], f"{where}.{name}")
        for name, each in value.items()
        if each is not None
    }


def read_query(pairs: Sequence[tuple[str, str]], allowed: Sequence[str]) -> dict[str, str]:
    """The query's parameters. Raises RestError."""
    for name, _ in pairs:
        if name not in allowed:
            raise invalid(f"query: unknown parameter {name}")
    if len(pairs) != len(dict(pairs)):
        raise invalid("query: a parameter comes twice")
    return dict(pairs)


def page(items: Sequence[Json], query: Mapping[str, str]) -> Json:
    """The page that the query asks for, and the token of the next. Raises RestError."""
    try:
        size = int(query.get("page_size") or 0)
    except ValueError:
        raise invalid("page_size: expected a number") from None
    if not 0 <= size <= LARGEST_PAGE:
        raise invalid(f"page_size: expected 0 to {LARGEST_PAGE}")
    size = max(size, SMALLEST_PAGE) if size else USUAL_PAGE
    start = 0
    if token := query.get("page_token"):
        try:
            start = int(base64.urlsafe_b64decode(token.encode()))
        except (ValueError, binascii.Error):
            raise invalid("page_token: not one of ours") from None
    end = start + size
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return {"list": list(items[start:end]), "nextPageToken": following}


def check_annotations(annotations: Mapping[str, str]) -> None:
    """As they would be after the request. Raises RestError."""
    if len(annotations) > MOST_ANNOTATIONS:
        raise invalid(f"annotations: expected at most {MOST_ANNOTATIONS}")
    for key, value in annotations.items():
        if not ANNOTATION_KEY.fullmatch(key) or key.startswith(RESERVED):
            raise invalid(f"annotations: the key {key!r} is not allowed")
        if len(value) > LONGEST_VALUE or not URL_SAFE.fullmatch(value):
            raise invalid(f"annotations: the value of {key!r} is not at most {LONGEST_VALUE} URL-safe ASCII characters")
    if sum(len(key) + len(value) for key, value in annotations.items()) > ANNOTATION_BYTES:
        raise invalid(f"annotations: expected at most {ANNOTATION_BYTES} bytes in all")
