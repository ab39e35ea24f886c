"""How the operator reaches the API server: one way for the typed client and for kopf's watch alike."""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import kopf
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from buildkite_connector.kubernetes.retry_after import HoldBack
from buildkite_connector.model.failure import Failure, Reason

_logger = logging.getLogger(__name__)
_TOKEN = "BearerToken"  # noqa: S105  (the name of the client's one security scheme)


def take_environment_proxy(configuration: Configuration) -> None:
    """Let the client go through the environment's proxy, unless the configuration names one.

    The session would look for a proxy and for a netrc file again at each request, in a thread: half of what a request
    costs. The API server's address and the environment stay as they are.
    """
    configuration.client_session_kwargs = {"trust_env": False}
    address = urlsplit(configuration.host)
    if configuration.proxy or not address.hostname or proxy_bypass(address.netloc):
        return
    configuration.proxy = getproxies().get(address.scheme)


class ClientConfig(Protocol):
    async def load(self, configuration: Configuration) -> None:
        """Fill in address, trust and credentials as they are now. Raises Failure (remedy: retry)."""
        ...


@dataclass(frozen=True, slots=True)
class KubeconfigLogin:
    """As `kubectl` has it: `path` is one file, or several with colons between them."""

    path: str

    async def load(self, configuration: Configuration) -> None:
        try:
            self._check_exists()
            await load_kube_config(  # type: ignore[no-untyped-call]  # the package's config has no types
                self.path, client_configuration=configuration, persist_config=False
            )
        except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise _unusable(f"the kubeconfig {self.path}", error) from None

    def _check_exists(self) -> None:
        """The loader itself would go on with nothing, and fail with a TypeError."""
        if not any(Path(each).expanduser().is_file() for each in self.path.split(os.pathsep)):
            raise FileNotFoundError("there is no such file")


@dataclass(frozen=True, slots=True)
class InClusterLogin:
    """With the pod's service account. The client reads its token again every minute, as the token changes."""

    async def load(self, configuration: Configuration) -> None:
        try:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # as above
        except (ConfigException, OSError) as error:
            raise _unusable("the pod's service account", error) from None


def choose_client_config(environment: Mapping[str, str], home: Path) -> ClientConfig:
    """`KUBECONFIG`, else the cluster that the process runs in, else the file where kubectl keeps its own."""
    if path := environment.get("KUBECONFIG"):
        return KubeconfigLogin(path)
    if "KUBERNETES_SERVICE_HOST" in environment:
        return InClusterLogin()
    return KubeconfigLogin(str(home / ".kube" / "config"))


class KopfClientConfig:
    """The same for kopf, which asks again whenever the API server says 401. Used in kopf's event loop.

    The sessions are ours: kopf leaves its own open when it is stopped in the midst of its start, and gives up when a
    second login brings what the first one brought, though it may have been the connection that was at fault.
    """

    def __init__(self, login: ClientConfig, same_login_seconds: float = 5.0) -> None:
        """`same_login_seconds`: how long a login waits that has nothing new to offer."""
        self._login = login
        self._same_login_seconds = same_login_seconds
        self._last: kopf.ConnectionInfo | None = None
        self._hold_back = HoldBack()
        self._sessions = AsyncExitStack()

    async def log_in(self, **_: object) -> kopf.AiohttpSession:
        info = await _read(self._login)
        if info == self._last:
            _logger.warning("the API server refused the watch's credentials or connection; trying them again")
            await asyncio.sleep(self._same_login_seconds)
        self._last = info
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            trust_env=True,
            middlewares=(self._hold_back,),
        )
        await self._sessions.enter_async_context(session)
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    async def aclose(self) -> None:
        await self._sessions.aclose()


async def _read(login: ClientConfig) -> kopf.ConnectionInfo:
    configuration = Configuration()
    await login.load(configuration)
    scheme, _, token = configuration.api_key.get(_TOKEN, "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
        proxy_url=configuration.proxy,
    )


def _unusable(what: str, error: Exception) -> Failure:
    return Failure(
        Reason.KUBERNETES_REFUSED,
        f"The Kubernetes API cannot be reached with {what}: {error}."
        " Set KUBECONFIG to a usable file, or run in a pod with a service account.",
    )
