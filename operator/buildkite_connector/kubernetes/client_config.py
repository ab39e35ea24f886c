"""How the operator logs in to the API server: a kubeconfig, read as kubectl reads it, or the pod's service account.

Each field of a kubeconfig that kubectl honours works, or is refused by its name.

The rules are client-go's (`tools/clientcmd`): several files in KUBECONFIG are merged, the first that has a name wins;
relative paths start at the file that has them; data goes before files; a token file goes before a token; and a plugin
is asked only where there is nothing else to log in with. Over plain http no credentials are sent.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from buildkite_connector.kubernetes.access import (
    REREAD_SECONDS,
    Access,
    AccessError,
    ClientConfig,
    InClusterLogin,
    Tls,
    bearer,
    certificates,
    read_file,
    read_token,
    refuse,
    sendable,
)
from buildkite_connector.kubernetes.exec_plugin import API_VERSIONS, Exec, KubeconfigPart, run_plugin
from buildkite_connector.network import Network, Proxy, Trust
from buildkite_connector.timing.clock import Clock, SystemClock

__all__ = ("ClientConfig", "InClusterLogin", "KubeconfigLogin", "choose_client_config")

_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The extension of a cluster that is passed to the plugin."""
_RENEW_AT = 0.9
"""The share of their lifetime after which a plugin's credentials are renewed."""
_SHORTEST_LIFE = 1.0
"""Seconds. A plugin that returns expired credentials must not run for each request."""
_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"  # noqa: S105 - those that a header's name may have besides letters and digits

_Section = TypeVar("_Section", bound=KubeconfigPart)


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None


Data = Annotated[bytes, BeforeValidator(_decoded)]


class Extension(KubeconfigPart):
    name: str = ""
    extension: Any = None


class Cluster(KubeconfigPart):
    server: str = ""
    tls_server_name: str = Field("", alias="tls-server-name")
    insecure_skip_tls_verify: bool = Field(False, alias="insecure-skip-tls-verify")
    certificate_authority: str = Field("", alias="certificate-authority")
    certificate_authority_data: Data = Field(b"", alias="certificate-authority-data")
    proxy_url: str = Field("", alias="proxy-url")
    disable_compression: bool = Field(False, alias="disable-compression")
    extensions: list[Extension] = Field([])


class User(KubeconfigPart):
    client_certificate: str = Field("", alias="client-certificate")
    client_certificate_data: Data = Field(b"", alias="client-certificate-data")
    client_key: str = Field("", alias="client-key")
    client_key_data: Data = Field(b"", alias="client-key-data")
    token: str = ""
    token_file: str = Field("", alias="tokenFile")
    impersonate: str = Field("", alias="as")
    impersonate_uid: str = Field("", alias="as-uid")
    impersonate_groups: list[str] = Field([], alias="as-groups")
    impersonate_extra: dict[str, list[str]] = Field({}, alias="as-user-extra")
    username: str = ""
    password: str = ""
    auth_provider: Any = Field(None, alias="auth-provider")
    exec: Exec | None = None


class Context(KubeconfigPart):
    """`namespace` is ignored: the operator has a setting of its own for the namespaces that it serves."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


def choose_client_config(environment: Mapping[str, str], network: Network) -> ClientConfig:
    """`KUBECONFIG`, else the cluster that the process runs in, else the file where kubectl keeps its own."""
    if path := environment.get("KUBECONFIG"):
        return KubeconfigLogin(path, network)
    if "KUBERNETES_SERVICE_HOST" in environment:
        return InClusterLogin(environment, network)
    return KubeconfigLogin("~/.kube/config", network)


@dataclass(frozen=True, slots=True)
class KubeconfigLogin:
    """Logs in as kubectl does. `path`: one file, or several separated by colons."""

    path: str
    network: Network = field(default_factory=Network, repr=False)
    clock: Clock = field(default_factory=SystemClock, compare=False, repr=False)

    async def load(self) -> Access:
        try:
            return await _access(*_merged(self.path), self.network, self.clock)
        except AccessError as error:
            refuse(f"the kubeconfig {self.path}", error)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One named cluster, user or context, and the folder that its relative paths start at."""

    kind: str
    name: str
    fields: object
    folder: Path

    def parse(self, model: type[_Section]) -> _Section:
        try:
            return model.model_validate(self.fields)
        except ValidationError as errors:
            first = errors.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            why = first["msg"].removeprefix("Value error, ")
            raise AccessError(f"{self.kind} {self.name!r}: {where}: {why}") from None

    def refuse(self, why: str) -> NoReturn:
        raise AccessError(f"{self.kind} {self.name!r}: {why}")

    def file(self, path: str) -> Path:
        return self.folder / path


def _find(entries: Mapping[tuple[str, str], _Entry], kind: str, name: str, of: str) -> _Entry:
    """The entry of this kind that `of` names."""
    found = entries.get((kind, name))
    if found is None:
        raise AccessError(
            f"{of} names the {kind} {name!r}, which does not exist" if name else f"{of} does not name a {kind}"
        )
    return found


def _merged(paths: str) -> tuple[str, dict[tuple[str, str], _Entry]]:
    """current-context, and the entries by kind and name. For each of them the first file that has it wins."""
    entries: dict[tuple[str, str], _Entry] = {}
    current = ""
    files = dict.fromkeys(path for each in paths.split(os.pathsep) if each and (path := _existing(each)))
    for path in files:
        config = _parsed(path)
        current = current or _text(config, "current-context", path)
        for kind in ("cluster", "user", "context"):
            for entry in _entries(config, kind, path):
                entries.setdefault((kind, entry.name), entry)
    if not files:
        raise AccessError("the file does not exist")
    if not current:
        raise AccessError("current-context is not set; set it with `kubectl config use-context`")
    return current, entries


def _existing(path: str) -> Path | None:
    """None where there is no such file."""
    try:
        found = Path(path).expanduser()
        return found if found.exists() else None
    except OSError as error:
        raise AccessError(f"{path} cannot be read ({error.strerror})") from None
    except (RuntimeError, ValueError):
        raise AccessError(f"{path} cannot be read (no usable path, or no home directory for its ~)") from None


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: an unquoted date is a string, and an escape for half a character is an error."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if re.search("[\ud800-\udfff]", value):
            raise yaml.constructor.ConstructorError(problem="half a character", problem_mark=node.start_mark)
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parsed(path: Path) -> Mapping[object, object]:
    try:
        config = yaml.load(read_file(path).decode("utf-8-sig"), _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:  # whose text may repeat a part of the file
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise AccessError(f"{path} is not YAML{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise AccessError(f"{path} is not YAML") from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise AccessError(f"{path} is not a kubeconfig: it does not contain a mapping")
    if config.get("apiVersion") not in (None, "", "v1") or config.get("kind") not in (None, "", "Config"):
        raise AccessError(f"{path} is not a kubeconfig: its apiVersion and kind must be v1 and Config")
    return config


def _text(config: Mapping[object, object], name: str, path: Path) -> str:
    value = config.get(name)
    if not isinstance(value, str | None):
        raise AccessError(f"{name} in {path} must be a string")
    return value or ""


def _entries(config: Mapping[object, object], kind: str, path: Path) -> list[_Entry]:
    listed = config.get(f"{kind}s") or []
    if not isinstance(listed, list):
        raise AccessError(f"{kind}s in {path} must be a list")
    found: dict[str, _Entry] = {}
    for each in listed:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str):
            raise AccessError(f"{kind}s in {path}: each must have a name")
        if name in found:
            raise AccessError(f"{kind}s in {path}: the name {name!r} is used twice")
        found[name] = _Entry(kind, name, each.get(kind) or {}, path.absolute().parent)
    return list(found.values())


async def _access(current: str, entries: Mapping[tuple[str, str], _Entry], network: Network, clock: Clock) -> Access:
    context = _find(entries, "context", current, "current-context").parse(Context)
    of = f"context {current!r}"
    cluster_entry = _find(entries, "cluster", context.cluster, of)
    user_entry = _find(entries, "user", context.user, of)
    cluster, user = cluster_entry.parse(Cluster), user_entry.parse(User)
    server = _server(cluster_entry, cluster.server)
    proxy = _proxy(cluster_entry, cluster.proxy_url) or network.proxy_for(server)
    headers = tuple(_impersonation(user_entry, user))
    for name, value in headers:
        sendable(value, f"user {user_entry.name!r}: the value of {name}")
    if cluster.disable_compression:
        headers = (*headers, ("Accept-Encoding", "identity"))
    if not server.startswith("https:"):
        return Access(server, headers=headers, proxy=proxy)
    ca = _certificate_authority(cluster_entry, cluster)
    told = _cluster_for_plugin(cluster_entry, cluster, server, ca)
    identity = await _identity(user_entry, user, told, clock)
    trust = None if cluster.insecure_skip_tls_verify else ca or network.trust
    tls = Tls(trust, identity.pem)
    tls.context()
    authority_may_change = cluster.certificate_authority and not cluster.certificate_authority_data
    renewals = (identity.good_for, REREAD_SECONDS if authority_may_change else None)
    return Access(
        server,
        tls,
        headers=(*identity.headers, *headers),
        proxy=proxy,
        tls_server_name=cluster.tls_server_name or None,
        secrets=identity.secrets,
        renew_after=min(filter(None, renewals), default=None),
    )


def _server(entry: _Entry, server: str) -> str:
    """The server's URL without a slash at its end; one without a scheme is http, as kubectl takes it."""
    if not server:
        entry.refuse("server is not set")
    url = server if "://" in server else f"http://{server}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        entry.refuse("server must be like https://host:6443")
    if parts.username is not None or parts.password is not None:
        entry.refuse("server must not contain a user name or password; set them in the user")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _proxy(entry: _Entry, url: str) -> Proxy | None:
    """Never quoted: it may hold a password."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, 80 if parts.port is None else parts.port
    except ValueError:
        scheme, host, port = "", None, 0
    if scheme in ("https", "socks5", "socks5h"):
        entry.refuse(f"proxy-url: {scheme} is not supported, only proxies that speak plain HTTP are (http://host:3128)")
    if scheme != "http" or not host or not port:
        entry.refuse("proxy-url must be like http://host:3128")
    return Proxy("proxy-url", host, port, unquote(parts.username or ""), unquote(parts.password or ""))


def _certificate_authority(entry: _Entry, cluster: Cluster) -> Trust | None:
    """None where the process's own authorities are trusted."""
    if cluster.certificate_authority_data:
        pem, what = cluster.certificate_authority_data, "certificate-authority-data"
    elif cluster.certificate_authority:
        pem, what = read_file(entry.file(cluster.certificate_authority)), "certificate-authority"
    else:
        return None
    if cluster.insecure_skip_tls_verify:
        entry.refuse(f"{what} and insecure-skip-tls-verify are mutually exclusive; remove one")
    return certificates(pem, f"cluster {entry.name!r}: {what}")


def _impersonation(entry: _Entry, user: User) -> Iterator[tuple[str, str]]:
    """The headers by which the user impersonates another, who often has fewer permissions."""
    if not user.impersonate:
        if user.impersonate_uid or user.impersonate_groups or user.impersonate_extra:
            entry.refuse("as-uid, as-groups and as-user-extra need the field as")
        return
    yield "Impersonate-User", user.impersonate
    if user.impersonate_uid:
        yield "Impersonate-Uid", user.impersonate_uid
    for group in user.impersonate_groups:
        yield "Impersonate-Group", group
    for key, values in user.impersonate_extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(key, safe=_TOKEN_CHARACTERS)}", value


@dataclass(frozen=True, slots=True)
class _Identity:
    """The credentials. `good_for`: seconds until they must be read again; None: until the server rejects them."""

    headers: tuple[tuple[str, str], ...] = ()
    pem: bytes = b""
    secrets: tuple[str, ...] = ()
    good_for: float | None = None


async def _identity(entry: _Entry, user: User, told: Mapping[str, Any], clock: Clock) -> _Identity:
    if user.auth_provider is not None:
        entry.refuse("auth-provider is not supported (nor is it by kubectl); use exec, a token or a client certificate")
    token, from_file = _token(entry, user)
    basic = user.username or user.password
    if token and basic:
        entry.refuse("token and username are mutually exclusive; remove one")
    pem = _client_certificate(entry, user)
    if not (token or basic or pem):
        if user.exec is None:
            entry.refuse("has no credentials: none of token, tokenFile, client-certificate, exec and username is set")
        return await _from_plugin(entry, user.exec, told, clock)
    if from_file or (pem and not (user.client_certificate_data and user.client_key_data)):
        good_for = REREAD_SECONDS
    else:
        good_for = None
    if basic:
        both = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
        return _Identity((("Authorization", f"Basic {both}"),), pem, (user.password, both), good_for)
    return _with_token(token, pem, good_for)


def _with_token(token: str, pem: bytes, good_for: float | None) -> _Identity:
    return _Identity((bearer(token),), pem, (token,), good_for) if token else _Identity(pem=pem, good_for=good_for)


def _token(entry: _Entry, user: User) -> tuple[str, bool]:
    """Return the token, and whether it is from a file."""
    token = sendable(user.token.strip(), f"user {entry.name!r}: token")
    if user.token_file:
        try:
            return read_token(entry.file(user.token_file)), True
        except AccessError as error:
            if not token:
                entry.refuse(f"tokenFile: {error}")
    return token, bool(user.token_file)


def _client_certificate(entry: _Entry, user: User) -> bytes:
    """Certificate and key in one, as PEM; empty where there is none."""
    certificate = user.client_certificate_data
    if not certificate and user.client_certificate:
        certificate = read_file(entry.file(user.client_certificate))
    if not certificate:
        return b""
    key = user.client_key_data
    if not key and user.client_key:
        key = read_file(entry.file(user.client_key))
    if not key:
        entry.refuse("client-certificate needs client-key or client-key-data")
    return certificate + b"\n" + key


async def _from_plugin(entry: _Entry, fields: Exec, told: Mapping[str, Any], clock: Clock) -> _Identity:
    if not fields.command:
        entry.refuse("exec: command is not set")
    if fields.api_version not in API_VERSIONS:
        entry.refuse(f"exec: apiVersion must be one of {', '.join(API_VERSIONS)}")
    if any(not each.name for each in fields.env):
        entry.refuse("exec: each entry of env needs a name")
    if fields.interactive_mode == "Always":
        entry.refuse("exec: interactiveMode Always needs a terminal, but the operator does not have one")
    # The older version may leave it out.
    if fields.interactive_mode not in ("Never", "IfAvailable", *([""] if fields.api_version.endswith("beta1") else [])):
        entry.refuse("exec: interactiveMode must be Never or IfAvailable")
    command = str(entry.file(fields.command)) if os.sep in fields.command else fields.command
    plugin = fields.model_copy(update={"command": command})
    given = await run_plugin(plugin, told if fields.provide_cluster_info else None)
    token = sendable(given.token, "exec: the token that the command returned")
    pem = f"{given.clientCertificateData}\n{given.clientKeyData}".encode() if given.clientKeyData else b""
    good_for = None
    if given.expirationTimestamp is not None:
        life = (given.expirationTimestamp - clock.now()).total_seconds()
        good_for = max(_SHORTEST_LIFE, life * _RENEW_AT)
    return _with_token(token, pem, good_for)


def _cluster_for_plugin(entry: _Entry, cluster: Cluster, server: str, ca: Trust | None) -> Mapping[str, Any]:
    """The cluster as a plugin that asks for it gets it: `Cluster` of client.authentication.k8s.io."""
    extensions = {each.name: each.extension for each in cluster.extensions}
    try:
        json.dumps(extensions.get(_EXEC_EXTENSION), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        entry.refuse(f"extensions: {_EXEC_EXTENSION} contains a value that JSON cannot represent")
    told = {
        "server": server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": ca and base64.b64encode(ca.pem).decode(),
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": extensions.get(_EXEC_EXTENSION),
    }
    return {name: value for name, value in told.items() if value}
