"""Each call of the simulated C1's REST API: who may make it, and what it does."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from simulators.c1.apps import BATON, CATALOG, App, Connector, Credential, Json, view
from simulators.c1.connectors import Connectors
from simulators.c1.policy import ForcedAmid, Policy
from simulators.c1.rest_requests import (
    CREATE_APP,
    CREATE_CONNECTOR,
    CREATE_CREDENTIAL,
    PAGE,
    UPDATE_APP,
    Asked,
    RestError,
    check_annotations,
    invalid,
    page,
)
from simulators.c1.token import Authority, Role

READERS = {Role.READ_ONLY_ADMINISTRATOR, Role.CONNECTOR_ADMINISTRATOR, Role.APPLICATION_ADMINISTRATOR}
MANAGERS = {Role.CONNECTOR_ADMINISTRATOR}
APP_MANAGERS = {Role.APPLICATION_ADMINISTRATOR}
OTHER_FIELDS = (
    *("certifyPolicyId", "grantPolicyId", "revokePolicyId", "identityMatching", "monthlyCostUsd"),
    "strictAccessEntitlementProvisioning",
)
FAILED_PRECONDITION, ABORTED = 9, 10


class Calls:
    """What each call answers. Every method raises RestError.

    A role is looked at before what is asked for: whoever lacks it never learns what there is. Owners of a connector,
    or of its app, need no role for it.
    """

    def __init__(self, connectors: Connectors, authority: Authority, policy: Policy) -> None:
        self._all = connectors
        self._authority = authority
        self._policy = policy

    def introspect(self, asked: Asked) -> Json:
        return {
            "principleId": asked.who.client_id.partition("@")[0],
            "userId": asked.who.user_id,
            "tenantId": _tenant(asked),
            "roles": sorted(asked.who.roles),
            "permissions": [],
            "features": [],
            "disabledModules": [],
            "deviceClientId": "",
        }

    def list_apps(self, asked: Asked) -> Json:
        apps = [app for app in self._all.apps.values() if app.deleted_at is None]
        if not asked.who.roles & READERS:
            apps = [app for app in apps if asked.who.user_id in app.owners]
        return page([app.json() for app in apps], asked.query)

    def create_app(self, asked: Asked) -> Json:
        _allow(asked, APP_MANAGERS)
        body = asked.body
        if not body.get("displayName"):
            raise invalid("displayName: required")
        if body.get("matchBatonRef"):
            raise RestError(501, "matchBatonRef: not by this simulator")
        annotations = body.get("annotations", {})
        check_annotations(annotations)
        app = self._all.add_app(
            body["displayName"],
            description=body.get("description", ""),
            instructions=body.get("instructions", ""),
            annotations={name: value for name, value in annotations.items() if value},
            owners=list(body.get("owners", [])),
            others={name: body[name] for name in OTHER_FIELDS if name in body},
        )
        return {"app": app.json()}

    def get_app(self, asked: Asked) -> Json:
        return {"app": self._app(asked, asked.ids["id"], READERS, deleted=self._policy.shows_deleted).json()}

    def update_app(self, asked: Asked) -> Json:
        app = self._app(asked, asked.ids["id"], APP_MANAGERS)
        said = asked.body.get("app", {})
        for path in filter(None, asked.body.get("updateMask", "").split(",")):
            match path:
                case "displayName":
                    app.display_name = said.get(path, "")
                case "description":
                    app.description = said.get(path, "")
                case "instructions":
                    app.instructions = said.get(path, "")
                case "annotations":
                    patched = {**app.annotations, **said.get(path, {})}
                    patched = {name: value for name, value in patched.items() if value}
                    check_annotations(patched)
                    app.annotations = patched
                case _:
                    raise invalid(f"updateMask: unknown path {path}")
        return {"app": app.json()}

    def delete_app(self, asked: Asked) -> Json:
        self._all.delete_app(self._app(asked, asked.ids["id"], APP_MANAGERS))
        return {}

    def list_connectors(self, asked: Asked) -> Json:
        app = self._all.apps.get(asked.ids["app_id"])
        connectors = self._all.of_app(asked.ids["app_id"])
        if not asked.who.roles & READERS and (app is None or asked.who.user_id not in app.owners):
            connectors = [each for each in connectors if asked.who.user_id in each.owners]
            if not connectors:
                raise _denied()
        if app is None or app.deleted_at is not None:
            raise _not_found("app")
        return page([self._view(each) for each in connectors], asked.query) | {"expanded": []}

    def create_connector(self, asked: Asked) -> Json:
        app = self._app(asked, asked.ids["app_id"], MANAGERS)
        body = asked.body
        if body.get("catalogId") not in CATALOG:
            raise invalid(f"catalogId: required, and known here are {', '.join(CATALOG)}")
        for unsupported in ("expandMask", "appManagedStateBindingRef", "appEntitlementOwnerRefs"):
            if body.get(unsupported):
                raise RestError(501, f"{unsupported}: not by this simulator")
        connector = self._all.add(
            app,
            catalog_id=body.get("catalogId", BATON),
            display_name=body.get("displayName", ""),
            description=body.get("description", ""),
            owners=list(body.get("userIds", [])),
        )
        return {"connectorView": self._view(connector), "expanded": []}

    def get_connector(self, asked: Asked) -> Json:
        connector = self._connector(asked, READERS, deleted=self._policy.shows_deleted)
        return {"connectorView": self._view(connector), "expanded": []}

    def delete_connector(self, asked: Asked) -> Json:
        self._all.delete(self._connector(asked, MANAGERS))
        return {}

    def force_sync(self, asked: Asked) -> Json:
        connector = self._connector(asked, MANAGERS)
        if connector.paused is not None:
            if not self._policy.forced_while_paused:
                raise RestError(400, "the connector is paused", code=FAILED_PRECONDITION)
            return {}
        if self._all.is_busy(connector):
            if self._policy.forced_amid is ForcedAmid.REFUSED:
                raise RestError(409, "the connector is syncing", code=ABORTED)
            if self._policy.forced_amid is ForcedAmid.FOLDED:
                return {}
        self._all.sync(connector)
        return {}

    def pause(self, asked: Asked) -> Json:
        connector = self._connector(asked, MANAGERS)
        if connector.paused is None:
            self._all.pause(connector)
        return {}

    def resume(self, asked: Asked) -> Json:
        connector = self._connector(asked, MANAGERS)
        if connector.paused is not None and not connector.paused.can_resume:
            raise RestError(400, "the connector cannot be resumed", code=FAILED_PRECONDITION)
        self._all.resume(connector)
        return {}

    def create_credential(self, asked: Asked) -> Json:
        for name in CREATE_CREDENTIAL:
            if not asked.body.get(name):
                raise invalid(f"{name}: required")
        ids = {"app_id": asked.body["appId"], "connector_id": asked.body["connectorId"]}
        connector = self._connector(Asked(asked.who, ids, {}, {}), MANAGERS)
        client = self._authority.register(_tenant(asked))
        return {"credential": self._all.add_credential(connector, client).json(None, with_secret=True)}

    def get_credential(self, asked: Asked) -> Json:
        credential = self._credential(asked, deleted=self._policy.shows_deleted)
        return {"credential": credential.json(self._authority.last_used.get(credential.client.client_id))}

    def revoke_credential(self, asked: Asked) -> Json:
        self._all.revoke(self._credential(asked))
        return {}

    def _view(self, connector: Connector) -> Json:
        return view(connector, shows_disabled=self._policy.shows_disabled)

    def _app(self, asked: Asked, app_id: str, roles: Collection[Role], *, deleted: bool = False) -> App:
        app = self._all.apps.get(app_id)
        _allow(asked, roles, app)
        if app is None or (app.deleted_at is not None and not deleted):
            raise _not_found("app")
        return app

    def _connector(self, asked: Asked, roles: Collection[Role], *, deleted: bool = False) -> Connector:
        app = self._all.apps.get(asked.ids["app_id"])
        connector = self._all.connectors.get(asked.ids["connector_id"])
        if app is None or connector is None or connector.app_id != app.id:
            _allow(asked, roles)
            raise _not_found("app" if app is None else "connector")
        _allow(asked, roles, app, connector)
        if connector.deleted_at is not None and not deleted:
            raise _not_found("connector")
        return connector

    def _credential(self, asked: Asked, *, deleted: bool = False) -> Credential:
        connector = self._connector(asked, MANAGERS)
        credential = self._all.credentials.get(asked.ids["id"])
        if credential is None or credential.connector_id != connector.id:
            raise _not_found("credential")
        if credential.deleted_at is not None and not deleted:
            raise _not_found("credential")
        return credential


def _allow(asked: Asked, roles: Collection[Role], *owned: App | Connector | None) -> None:
    """Raises RestError when the asker has none of the roles and owns none of the things."""
    if asked.who.roles.isdisjoint(roles) and not any(each and asked.who.user_id in each.owners for each in owned):
        raise _denied()


def _tenant(asked: Asked) -> str:
    """The host that the asker's client ID names."""
    return asked.who.client_id.partition("@")[2].rpartition("/")[0]


def _denied() -> RestError:
    return RestError(403, "permission denied")


def _not_found(what: str) -> RestError:
    return RestError(404, f"{what} not found")


@dataclass(frozen=True, slots=True)
class Operation:
    """`path`: its segments, `{name}` for an ID. `body`: the shape of its body, None where it takes none."""

    rpc: str
    method: str
    path: str
    act: Callable[[Calls, Asked], Json]
    body: Json | None = field(default_factory=dict)
    query: tuple[str, ...] = ()

    def ids(self, path: str) -> dict[str, str] | None:
        """The IDs in a path that is this operation's."""
        wanted, found = self.path.split("/"), path.split("/")
        if len(wanted) != len(found):
            return None
        pairs = list(zip(wanted, found, strict=True))
        if not all(each == name or (name.startswith("{") and each) for name, each in pairs):
            return None
        return {name.strip("{}"): each for name, each in pairs if name.startswith("{")}


APP, CONNECTOR = "/apps/{id}", "/apps/{app_id}/connectors/{connector_id}"
CREDENTIAL = f"{CONNECTOR}/credentials/{{id}}"
OPERATIONS = (
    Operation("Introspect", "GET", "/auth/introspect", Calls.introspect, None),
    Operation("ListApps", "GET", "/apps", Calls.list_apps, None, PAGE),
    Operation("CreateApp", "POST", "/apps", Calls.create_app, CREATE_APP),
    Operation("GetApp", "GET", APP, Calls.get_app, None),
    Operation("UpdateApp", "POST", APP, Calls.update_app, UPDATE_APP),
    Operation("DeleteApp", "DELETE", APP, Calls.delete_app),
    Operation("ListConnectors", "GET", "/apps/{app_id}/connectors", Calls.list_connectors, None, PAGE),
    Operation("CreateConnector", "POST", "/apps/{app_id}/connectors", Calls.create_connector, CREATE_CONNECTOR),
    Operation("CreateCredential", "POST", "/apps/connectors/credentials", Calls.create_credential, CREATE_CREDENTIAL),
    Operation("GetConnector", "GET", CONNECTOR, Calls.get_connector, None),
    Operation("DeleteConnector", "DELETE", CONNECTOR, Calls.delete_connector),
    Operation("ForceSync", "POST", f"{CONNECTOR}/force_sync", Calls.force_sync),
    Operation("PauseConnector", "POST", f"{CONNECTOR}/pause", Calls.pause),
    Operation("ResumeConnector", "POST", f"{CONNECTOR}/resume", Calls.resume),
    Operation("GetCredential", "GET", CREDENTIAL, Calls.get_credential, None),
    Operation("RevokeCredential", "POST", CREDENTIAL, Calls.revoke_credential),
)
