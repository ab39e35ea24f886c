"""What kinds of objects the Kubernetes simulator serves, and how it words a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.kubernetes.fields import Manifest, Schema, object_schema


class ApiError(Exception):
    """A refusal, as the API server words it: an HTTP status, a reason of its closed list (or ""), a message."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def body(self) -> Manifest:
        """The `Status` object that tells it."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            "details": dict(self.details),
            "code": self.code,
        }


@dataclass(frozen=True, eq=False)
class Resource:
    """One kind of object, as its definition has it; the same one when the definition is edited."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    custom: bool = False
    status_subresource: bool = False
    schema: Schema = field(default_factory=lambda: object_schema(None), repr=False)
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resource) and (self.group, self.plural) == (other.group, other.plural)

    def __hash__(self) -> int:
        return hash((self.group, self.plural))

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @classmethod
    def defined_by(cls, crd: Manifest) -> "Resource":
        """The resource of a CustomResourceDefinition: of its storage version."""
        spec, names = crd["spec"], crd["spec"]["names"]
        version = next(version for version in spec["versions"] if version["storage"])
        return cls(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            custom=True,
            status_subresource="status" in version.get("subresources", {}),
            schema=object_schema(version["schema"]["openAPIV3Schema"]),
            singular=names.get("singular", names["kind"].lower()),
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
        )


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, status_subresource=True)
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
SECRETS = Resource("", "v1", "secrets", "Secret")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
BUILT_IN = (NAMESPACES, DEFINITIONS, SECRETS, EVENTS, LEASES)


def refusal(code: int, reason: str, resource: Resource, name: str, problem: str) -> ApiError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiError(code, reason, f'{resource.title} "{name}" {problem}', details)


def conflict(resource: Resource, name: str, problem: str) -> ApiError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {resource.title} "{name}": {problem}', details)
