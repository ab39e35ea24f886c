"""Drives the simulated C1 from another process: GET /_sim/journal and /_sim/connectors, POST /_sim/control.

A control message is one JSON object, `{"do": ORDER, …arguments}`; a wrong one is answered 400 with a sentence. The
orders are the methods of `Orders`; what one of them makes is in its answer.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulators.c1.apps import Connector, Json, SyncState
from simulators.c1.faults import Action, Fault
from simulators.c1.federation import jwks_at
from simulators.c1.policy import ForcedAmid
from simulators.c1.token import Client, RestClient, Role

if TYPE_CHECKING:
    from simulators.c1.server import C1Simulator


async def control(sim: "C1Simulator", request: web.Request) -> web.Response:
    """Answers one control request. It is not in the transcript."""
    match request.method, request.path:
        case "GET", "/_sim/journal":
            calls = [asdict(call) | {"at": call.at.isoformat()} for call in sim.transcript]
            journal = sim.journal
            told = {"calls": calls, "system_log": journal.system_log, "violations": journal.violations}
            return web.json_response(told)
        case "GET", "/_sim/connectors":
            return web.json_response(_connectors(sim))
        case "POST", "/_sim/control":
            try:
                return web.json_response(_obey(sim, json.loads(await request.read())))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                return web.json_response({"message": f"{type(error).__name__}: {error}"}, status=400)
    return web.json_response({"message": "there are GET stats, journal and connectors, and POST control"}, status=404)


def _connectors(sim: "C1Simulator") -> Json:
    """Everything that there is and was, deleted or not, without secrets."""
    everything, used = sim.connectors, sim.authority.last_used
    return {
        "apps": [app.json() for app in everything.apps.values()],
        "connectors": [each.json() for each in everything.connectors.values()],
        "credentials": [each.json(used.get(each.client.client_id)) for each in everything.credentials.values()],
    }


def _obey(sim: "C1Simulator", message: Any) -> Json:
    orders = [name for name in vars(Orders) if not name.startswith("_")]
    if not isinstance(message, dict) or message.get("do") not in orders:
        raise ValueError(f"expected a JSON object whose `do` is one of {', '.join(orders)}")
    arguments = {name: value for name, value in message.items() if name != "do"}
    made: Json | None = getattr(Orders(sim), message["do"])(**arguments)
    return made or {}


class Orders:
    """What another process may ask for. Raises ValueError, TypeError, KeyError or AttributeError for nonsense."""

    def __init__(self, sim: "C1Simulator") -> None:
        self._sim = sim

    def register_client(self) -> Json:
        return _credentials(self._sim.register_client())

    def register_rest_client(self, kind: str = "spc", roles: list[str] | None = None, user_id: str = "") -> Json:
        return _credentials(self._sim.register_rest_client(kind, _roles(roles), user_id=user_id))

    def register_trust(
        self,
        issuer: str,
        keys: Json | None = None,
        keys_url: str = "",
        ca_file: str | None = None,
        bearer: str | None = None,
        subject: str | None = None,
        roles: list[str] | None = None,
        user_id: str = "",
    ) -> Json:
        """`keys` is a JWKS; without it, `keys_url` is where it is fetched."""
        source = keys if keys is not None else jwks_at(keys_url, ca_file=ca_file, bearer=bearer)
        trust = self._sim.register_trust(issuer, source, subject=subject, roles=_roles(roles), user_id=user_id)
        return _credentials(trust)

    def register_connector(self, client_id: str | None = None, **fields: Any) -> Json:
        """Of a client that is registered already, or a new one, whose credentials are in the answer."""
        registered = {client.client_id: client for client in self._sim.authority.clients}
        client = registered[client_id] if client_id else self._sim.register_client()
        connector = self._sim.register_connector(client, **fields)
        return {"app_id": connector.app_id, "connector_id": connector.id, **_credentials(client)}

    def disable(self, client_id: str) -> None:
        self._sim.authority.disable(client_id)

    def refuse(self, client_id: str) -> None:
        self._sim.authority.refuse(client_id)

    def accept(self, client_id: str) -> None:
        self._sim.authority.accept(client_id)

    def expire_tokens(self) -> None:
        self._sim.authority.expire_tokens()

    def policy(self, **fields: Any) -> None:
        """Fields of `Policy`, by their names."""
        for name, value in fields.items():
            getattr(self._sim.policy, name)
            setattr(self._sim.policy, name, ForcedAmid(value) if name == "forced_amid" else value)

    def fault(self, rpc: str, action: str = Action.ERROR, **fields: Any) -> None:
        """Fields of `Fault`, by their names."""
        self._sim.faults.add(Fault(rpc, Action(action), **fields))

    def pause(self, connector_id: str, **fields: Any) -> None:
        self._sim.connectors.pause(self._connector(connector_id), **fields)

    def resume(self, connector_id: str) -> None:
        self._sim.connectors.resume(self._connector(connector_id))

    def fail_sync(self, connector_id: str, error: str) -> None:
        self._sim.connectors.fail_sync(self._connector(connector_id), error)

    def set_state(self, connector_id: str, state: str, last_error: str = "") -> None:
        self._sim.connectors.set_state(self._connector(connector_id), SyncState(state), last_error=last_error)

    def revoke(self, credential_id: str) -> None:
        self._sim.connectors.revoke(self._sim.connectors.credentials[credential_id])

    def delete(self, connector_id: str) -> None:
        self._sim.connectors.delete(self._connector(connector_id))

    def _connector(self, connector_id: str) -> Connector:
        return self._sim.connectors.connectors[connector_id]


def _roles(names: list[str] | None) -> list[Role]:
    return [Role(name) for name in names or ()]


def _credentials(client: Client | RestClient) -> Json:
    return {"client_id": client.client_id, "client_secret": client.client_secret}
