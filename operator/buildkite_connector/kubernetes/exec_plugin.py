"""Credentials from a program that a kubeconfig names under `exec`, run as client-go runs it.

The program's output is never shown, as it may hold credentials.
"""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from buildkite_connector.kubernetes.access import AccessError
from buildkite_connector.model.redactor import Redactor

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
RUN_SECONDS = 30.0
_MOST_BYTES = 1024 * 1024
"""Bytes of the program's output."""
_LONGEST_HINT = 300


class KubeconfigPart(BaseModel):
    """A part of a kubeconfig. As in kubectl, a field that is null is absent, and an unknown one is ignored."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}

    def __repr_args__(self) -> tuple[()]:
        """Nothing: many fields hold credentials."""
        return ()


class ExecVariable(KubeconfigPart):
    name: str = ""
    value: str = ""


class Exec(KubeconfigPart):
    """The program, and how it is run."""

    command: str = ""
    args: list[str] = []
    env: list[ExecVariable] = []
    api_version: str = Field("", alias="apiVersion")
    install_hint: str = Field("", alias="installHint")
    provide_cluster_info: bool = Field(False, alias="provideClusterInfo")
    interactive_mode: str = Field("", alias="interactiveMode")


Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""As in kubectl, null is the empty string."""


class ExecStatus(BaseModel):
    """The credentials from the program: a token, a client certificate with its key, or both."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    token: Text = ""
    clientCertificateData: Text = ""  # noqa: N815 - Kubernetes' names
    clientKeyData: Text = ""  # noqa: N815
    expirationTimestamp: AwareDatetime | None = None  # noqa: N815


class _ExecCredential(BaseModel):
    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    apiVersion: Text = ""  # noqa: N815
    kind: Text = ""
    status: ExecStatus | None = None


async def run_plugin(plugin: Exec, cluster: Mapping[str, Any] | None, run_seconds: float = RUN_SECONDS) -> ExecStatus:
    """Run the program, tell it about `cluster`, and parse its output. Raises AccessError."""
    output = await _run(plugin, cluster, run_seconds)
    name = f"exec: the command {plugin.command!r}"
    try:
        credential = _ExecCredential.model_validate_json(output)
    except ValidationError:
        raise AccessError(f"{name} did not print an ExecCredential as JSON") from None
    if credential.kind != "ExecCredential" or credential.apiVersion != plugin.api_version:
        raise AccessError(
            f"{name} did not print an ExecCredential of {plugin.api_version}, the kubeconfig's apiVersion"
        )
    status = credential.status
    if status is None or not (status.token or status.clientCertificateData or status.clientKeyData):
        raise AccessError(f"{name} returned neither a token nor a client certificate")
    if bool(status.clientCertificateData) != bool(status.clientKeyData):
        raise AccessError(f"{name} returned only one of client certificate and key")
    return status


async def _run(plugin: Exec, cluster: Mapping[str, Any] | None, run_seconds: float) -> bytes:
    name = f"exec: the command {plugin.command!r}"
    spec: dict[str, Any] = {"interactive": False}
    if cluster is not None:
        spec["cluster"] = cluster
    variables = {each.name: each.value for each in plugin.env}
    told = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(told)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
    except FileNotFoundError:
        hint = f": {Redactor().quote(plugin.install_hint, _LONGEST_HINT)}" if plugin.install_hint else ""
        raise AccessError(f"{name} was not found; install it where the operator runs{hint}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise AccessError(f"{name} cannot be run ({why or 'bad arguments'})") from None
    try:
        async with asyncio.timeout(run_seconds):
            output = await _read(process)
            code = await process.wait()
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        if isinstance(error, TimeoutError):
            raise AccessError(f"{name} did not end within {run_seconds:g} s") from None
        raise
    if len(output) > _MOST_BYTES:
        raise AccessError(f"{name} printed more than {_MOST_BYTES} bytes")
    if code != 0:
        raise AccessError(
            f"{name} ended with exit code {code}; its output is not shown because it may contain credentials:"
            " run `kubectl version` with the same kubeconfig to see it"
        )
    return output


async def _read(process: asyncio.subprocess.Process) -> bytes:
    """Read the output to its end. What exceeds the limit is dropped, so that the program can end."""
    output = b""
    while process.stdout is not None and (piece := await process.stdout.read(_MOST_BYTES)):
        output = output + piece if len(output) <= _MOST_BYTES else output
    return output
