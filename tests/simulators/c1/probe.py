"""A minimal connector that keeps C1's contract, or breaks it where it is told to: what the simulator is tested with.

It shares nothing with the product's own C1 adapter.
"""

import base64
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import httpx
import jwt
from google.protobuf.message import Message

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2
from simulators.c1.answers import wire
from simulators.c1.rest import PREFIX
from simulators.c1.server import C1Simulator
from simulators.c1.service import SERVICE
from simulators.c1.token import ASSERTION_TYPE, Client, RestClient

DEADLINE = 10.0
"""Seconds for each call."""
CHUNK = 512 * 1024


def assertion(
    client: Client,
    *,
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    signed_by: Client | None = None,
) -> str:
    """What a client signs; `header` and `claims` override, None as a value leaves out."""
    now = int(time.time())
    host = client.client_id.partition("@")[2].partition("/")[0].partition(":")[0]
    names = {"iss": client.client_id, "sub": client.client_id, "aud": [host]}
    body = names | {"iat": now, "nbf": now - 120, "exp": now + 120} | (claims or {})
    head = {"typ": None, "nonce": secrets.token_hex(16)} | (header or {})
    return jwt.PyJWS().encode(
        json.dumps({name: value for name, value in body.items() if value is not None}).encode(),
        _private_key(signed_by or client),
        algorithm="EdDSA",
        headers={name: value for name, value in head.items() if value is not None or name == "typ"},
    )


def _private_key(client: Client) -> Any:
    part = client.client_secret.split(":", 3)[3]
    jwk = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return jwt.PyJWK(jwk, algorithm="EdDSA").key


def token_form(client: Client, **changes: str) -> dict[str, str]:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_id": client.client_id,
        "client_assertion": assertion(client),
    }
    return form | changes


def http(sim: C1Simulator) -> httpx.AsyncClient:
    trust = ssl.create_default_context(cafile=str(sim.ca_file))
    return httpx.AsyncClient(base_url=sim.url, verify=trust, timeout=DEADLINE, trust_env=False)


async def token(sim: C1Simulator, client: Client) -> str:
    async with http(sim) as session:
        answer = await session.post("/auth/v1/token", data=token_form(client))
    answer.raise_for_status()
    access: str = answer.json()["access_token"]
    return access


@asynccontextmanager
async def rest(sim: C1Simulator, client: RestClient | Client) -> AsyncIterator[httpx.AsyncClient]:
    """REST with a token of this client's: paths are those below `/api/v1`."""
    bearer = await token(sim, client.client if isinstance(client, RestClient) else client)
    trust = ssl.create_default_context(cafile=str(sim.ca_file))
    async with httpx.AsyncClient(
        base_url=sim.url + PREFIX,
        headers={"authorization": f"Bearer {bearer}"},
        verify=trust,
        timeout=DEADLINE,
        trust_env=False,
    ) as session:
        yield session


def hello_request(host_id: str) -> pb.BatonServiceHelloRequest:
    os_info = {field.name: "unknown" for field in pb.BatonServiceHelloRequest.OSInfo.DESCRIPTOR.fields}
    return pb.BatonServiceHelloRequest(
        host_id=host_id,
        os_info=pb.BatonServiceHelloRequest.OSInfo(**os_info),
        connector_metadata=connector_pb2.ConnectorMetadata(display_name="Buildkite"),
    )


def upload_messages(
    host_id: str, task_id: str, data: bytes, chunk: int = CHUNK
) -> list[pb.BatonServiceUploadAssetRequest]:
    """The messages of a sound upload."""
    message = pb.BatonServiceUploadAssetRequest
    metadata = message.UploadMetadata(host_id=host_id, task_id=task_id)
    chunks = [message(data=message.UploadData(data=data[at : at + chunk])) for at in range(0, len(data), chunk)]
    eof = message.UploadEOF(sha256_checksum=hashlib.sha256(data).digest())
    return [message(metadata=metadata), *chunks, message(eof=eof)]


class Probe:
    """One host of one client. Every call raises grpc.aio.AioRpcError as gRPC does."""

    def __init__(self, channel: grpc.aio.Channel, access_token: str, host_id: str) -> None:
        self._channel = channel
        self.access_token = access_token
        self.host_id = host_id

    async def call(self, rpc: str, request: Message, *, timeout: float = DEADLINE) -> Any:  # noqa: ASYNC109
        """Any unary call, as it is."""
        answer = "StartDebuggingResponse" if rpc == "StartDebugging" else f"BatonService{rpc}Response"
        method = self._channel.unary_unary(
            f"/{SERVICE}/{rpc}",
            request_serializer=wire,
            response_deserializer=getattr(pb, answer).FromString,
        )
        return await method(request, timeout=timeout, metadata=self._metadata())

    async def hello(
        self, task_id: str = "", *, capabilities: connector_pb2.ConnectorCapabilities | None = None
    ) -> None:
        request = hello_request(self.host_id)
        request.task_id = task_id
        if capabilities is not None:
            request.connector_metadata.capabilities.CopyFrom(capabilities)
        await self.call("Hello", request)

    async def get_task(self, *, timeout: float = DEADLINE) -> pb.BatonServiceGetTaskResponse:  # noqa: ASYNC109
        request = pb.BatonServiceGetTaskRequest(host_id=self.host_id)
        answer: pb.BatonServiceGetTaskResponse = await self.call("GetTask", request, timeout=timeout)
        return answer

    async def heartbeat(self, task_id: str, *, timeout: float = DEADLINE) -> pb.BatonServiceHeartbeatResponse:  # noqa: ASYNC109
        request = pb.BatonServiceHeartbeatRequest(host_id=self.host_id, task_id=task_id)
        answer: pb.BatonServiceHeartbeatResponse = await self.call("Heartbeat", request, timeout=timeout)
        return answer

    async def upload(self, task_id: str, data: bytes) -> None:
        await self.send(upload_messages(self.host_id, task_id, data))

    async def send(self, messages: Iterable[pb.BatonServiceUploadAssetRequest]) -> None:
        """Any upload, message by message."""
        method = self._channel.stream_unary(
            f"/{SERVICE}/UploadAsset",
            request_serializer=wire,
            response_deserializer=pb.BatonServiceUploadAssetResponse.FromString,
        )
        await method(iter(messages), timeout=DEADLINE, metadata=self._metadata())

    async def finish(self, task_id: str) -> None:
        success = pb.BatonServiceFinishTaskRequest.Success()
        await self.call(
            "FinishTask",
            pb.BatonServiceFinishTaskRequest(host_id=self.host_id, task_id=task_id, success=success),
        )

    async def finish_failed(self, task_id: str, code: int, message: str = "no", *, non_retryable: bool = False) -> None:
        request = pb.BatonServiceFinishTaskRequest(host_id=self.host_id, task_id=task_id)
        request.status.code, request.status.message = code, message
        request.error.non_retryable = non_retryable
        await self.call("FinishTask", request)

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.access_token}")] if self.access_token else []


@asynccontextmanager
async def probe(sim: C1Simulator, client: Client | None = None, host_id: str = "a-host") -> AsyncIterator[Probe]:
    """A connected host with a token, that has not said Hello."""
    client = client or sim.register_client()
    roots = grpc.ssl_channel_credentials(sim.ca_file.read_bytes())
    options = [("grpc.primary_user_agent", "probe/1"), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.secure_channel(sim.address, roots, options) as channel:
        yield Probe(channel, await token(sim, client), host_id)


async def rejected(call: Awaitable[object], code: grpc.StatusCode, says: str = "") -> None:
    """Await a call that must end with this status, and a text that contains `says`."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not code or says not in (error.details() or ""):
            raise AssertionError(f"expected {code}: {says}") from error
    else:
        raise AssertionError("the call succeeded")
