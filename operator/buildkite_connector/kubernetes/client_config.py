"""How the operator logs in to the API server: by which kubeconfig or service account, and how kopf's watch does."""

import asyncio
import logging
from collections.abc import Mapping
from typing import cast

import aiohttp
import kopf

from buildkite_connector.kubernetes.access import ClientConfig, InClusterLogin
from buildkite_connector.kubernetes.api_session import ApiSession
from buildkite_connector.kubernetes.kubeconfig import KubeconfigLogin
from buildkite_connector.kubernetes.retry_after import HoldBack
from buildkite_connector.model.failure import Failure
from buildkite_connector.network import Network

__all__ = ("ClientConfig", "InClusterLogin", "KopfClientConfig", "KubeconfigLogin", "choose_client_config")

_logger = logging.getLogger(__name__)


def choose_client_config(environment: Mapping[str, str], network: Network) -> ClientConfig:
    """`KUBECONFIG`, else the cluster that the process runs in, else the file where kubectl keeps its own."""
    if path := environment.get("KUBECONFIG"):
        return KubeconfigLogin(path, network)
    if "KUBERNETES_SERVICE_HOST" in environment:
        return InClusterLogin(environment, network)
    return KubeconfigLogin("~/.kube/config", network)


class KopfClientConfig:
    """The login for kopf, in kopf's event loop.

    kopf asks again when the API server says 401 although the session has renewed its credentials, and when a
    connection broke in a way that kopf blames on the login. The session is closed here too, as kopf leaves it open when
    it is stopped in the midst of its start.
    """

    def __init__(self, login: ClientConfig, same_login_seconds: float = 5.0) -> None:
        """`same_login_seconds`: how long every login but the first waits, and the next after one that failed."""
        self._login = login
        self._same_login_seconds = same_login_seconds
        self._session: ApiSession | None = None
        self._hold_back = HoldBack()

    async def log_in(self, **_: object) -> kopf.AiohttpSession:
        """Raises kopf.TemporaryError, which kopf logs as a sentence and tries again; any other with a traceback."""
        if self._session is not None:
            await self.aclose()
            _logger.warning("the API server refused the watch's credentials or connection; trying them again")
            await asyncio.sleep(self._same_login_seconds)
        try:
            access = await self._login.load()
        except Failure as failure:
            raise kopf.TemporaryError(failure.message, delay=self._same_login_seconds) from None
        self._session = ApiSession(self._login, access, (self._hold_back,))
        # kopf uses no more of a session than ApiSession has.
        return kopf.AiohttpSession(server=access.server, aiohttp_session=cast(aiohttp.ClientSession, self._session))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
