"""The HTTP session that kopf watches through, on which no error is final.

kopf ends at every answer that it does not expect: a 404 while the CRD is missing, a 410, a line that is not JSON. This
session retries instead, logs a lasting error once, and ends a watch that cannot go on with 410 Gone, after which kopf
lists all objects and watches again. At the start kopf's discovery waits until the resource exists, so that the CRD and
the operator can be applied in any order.
"""

import asyncio
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp

from buildkite_connector.kubernetes.client import KubernetesApi, listed
from buildkite_connector.kubernetes.connection import UNREADABLE, ApiError
from buildkite_connector.kubernetes.informer import Informer, WatchSettings
from buildkite_connector.kubernetes.schema import GROUP, PLURAL, VERSION
from buildkite_connector.model.failure import Failure

_NAME = f"{PLURAL}.{GROUP}"
_GONE = b'{"type": "ERROR", "object": {"code": 410}}\n'
LONGEST_SILENCE = 120.0
"""Seconds after which the watch counts as stuck: it receives or sends something at least every 70 seconds."""
_BACKOFF = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between tries while the API server is unreachable; the last one repeats."""
_EMPTY_SECONDS = 1.0
"""Pause after a watch that ended before it reported anything: kopf asks again at once."""
_LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes of one event; an object in etcd has 1.5 MiB at most."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True)
class _Trouble:
    """The errors of one path: how many in a row, and which message was logged."""

    count: int = 0
    said: str = ""

    def end(self) -> None:
        """The path works again."""
        self.count, self.said = 0, ""


@dataclass(slots=True)
class Pulse:
    """When the watch last asked or heard something, in monotonic seconds."""

    last: float = field(default_factory=time.monotonic)


class WatchSession:
    """The part of `aiohttp.ClientSession` that kopf uses, on the connection and with the credentials of `api`."""

    def __init__(self, api: KubernetesApi, informer: Informer, settings: WatchSettings, pulse: Pulse) -> None:
        self._connection = api.connection
        self._informer = informer
        self.settings = settings
        self.pulse = pulse
        self.streams: set[_Stream] = set()
        self._generation = 0
        self._held_until = 0.0
        self._troubles = defaultdict[tuple[str, str], _Trouble](_Trouble)
        self._lists = defaultdict[str, deque[float]](lambda: deque(maxlen=2))
        self._served = self._over = False
        self.closed = False

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Those of every request; kopf adds its User-Agent."""
        return self._connection.headers

    async def close(self) -> None:
        """kopf has ended; the connection stays open for the last calls of the operator."""
        self.closed = True

    def end(self) -> None:
        """End what still watches and lists: nothing is reported any more."""
        self._over = True
        self.begin_anew()

    def begin_anew(self) -> None:
        """Make kopf list all objects, and watch from there."""
        self._generation += 1
        for stream in list(self.streams):
            stream.expire()

    async def request(self, method: str, url: str, **options: Any) -> Any:
        """Retry until there is an answer that kopf can use."""
        parts = urlsplit(url)
        if "watch=true" in parts.query:
            return await self._watch(parts.path, method, url, **options)
        if parts.path.endswith(PLURAL) and "continue=" not in parts.query:
            await self._spaced(parts.path)
        return await self._list(parts.path, method, url, **options)

    async def _watch(self, path: str, *request: str, **options: Any) -> "_Stream":
        generation, trouble = self._generation, self._troubles[path, "watch"]
        try:
            response = await self._ask(trouble, "watch resources", _unread, *request, **options)
        except ApiError as rejected:
            if rejected.status != 404:  # else kopf's list finds out whether the CRD is gone
                await self.broken_off(trouble, str(rejected))
            return _Stream(self, trouble)
        trouble.end()
        stream = _Stream(self, self._troubles[path, "stream"], response)
        if generation != self._generation:
            stream.expire()
        return stream

    async def _list(self, path: str, *request: str, **options: Any) -> "_Answer":
        """The answer to a list or to discovery."""
        trouble = self._troubles[path, "list"]
        while True:
            try:
                answer = await self._ask(trouble, "list resources", _checked, *request, **options)
            except ApiError as rejected:
                if rejected.status == 410:  # between two pages of a list, which kopf then begins again
                    raise aiohttp.ClientConnectionError(str(rejected)) from None
                await self._rejected(trouble, rejected)
                continue
            trouble.end()
            if path.endswith(PLURAL):
                self._served = True
                self._informer.relist_soon()
            return _Answer(answer)

    async def _ask(
        self,
        trouble: _Trouble,
        what: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
        *request: str,
        **options: Any,
    ) -> _T:
        """As `Connection.attempt`, until it raises no Failure."""
        while True:
            if self._over:
                raise asyncio.CancelledError
            await asyncio.sleep(self._held_until - time.monotonic())
            self.pulse.last = time.monotonic()
            try:
                return await self._connection.attempt(what, read, *request, **options)
            except Failure as failure:
                self._log(trouble, failure.message)
                self._held_until = max(self._held_until, time.monotonic() + (failure.retry_after or 0.0))
                await asyncio.sleep(_BACKOFF[min(trouble.count, len(_BACKOFF)) - 1])

    async def _spaced(self, path: str) -> None:
        """Wait so that at most two lists of a path begin within `poll_seconds`, whatever ends the watches."""
        begun = self._lists[path]
        if len(begun) == begun.maxlen:
            await asyncio.sleep(begun[0] + self.settings.poll_seconds - time.monotonic())
        begun.append(time.monotonic())

    async def broken_off(self, trouble: _Trouble, why: str) -> None:
        """A watch cannot go on: kopf lists again, at once the first time."""
        self._log(trouble, f"The watch of {PLURAL} was interrupted and starts again: {self._connection.quote(why)}")
        if trouble.count > 1:
            await asyncio.sleep(self.settings.poll_seconds)

    async def _rejected(self, trouble: _Trouble, rejected: ApiError) -> None:
        """Handle a rejected list. A single 404 closes no connector: an API server that starts returns some."""
        self._log(trouble, _advice(rejected, again=self._served))
        if rejected.status == 404 and trouble.count > 1:
            self._informer.forget_all()
            self.begin_anew()  # another namespace's watch does not report again what it has reported
        await asyncio.sleep(self.settings.poll_seconds)

    def _log(self, trouble: _Trouble, sentence: str) -> None:
        """Log an error once while it lasts; after the first success, only if the next try fails too."""
        trouble.count += 1
        if trouble.count > self._served and all(each.said != sentence for each in self._troubles.values()):
            _logger.error(sentence)
            trouble.said = sentence


class _Answer:
    """The answer to a list or to discovery; kopf reads its JSON."""

    status = 200

    def __init__(self, body: Any) -> None:
        self._body = body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def json(self) -> Any:
        return self._body


class _Stream:
    """The answer to a watch: the lines that kopf can use. Without a response: 410 Gone."""

    status = 200

    def __init__(
        self, session: WatchSession, trouble: _Trouble, response: aiohttp.ClientResponse | None = None
    ) -> None:
        self.content = self
        self._session = session
        self._trouble = trouble
        self._response = response
        self._expired = response is None

    async def __aenter__(self) -> Self:
        self._session.streams.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._session.streams.discard(self)
        self.close()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()

    def expire(self) -> None:
        """End the watch with 410 Gone, and wake what waits for an event."""
        self._expired = True
        self.close()

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        try:
            async for line in self._lines(size):
                yield line
        except (aiohttp.ClientError, OSError):
            if not self._expired:
                raise  # kopf goes on from the version that it has
        except _OddEventError as odd:
            self._expired = True
            await self._session.broken_off(self._trouble, str(odd))
        if self._expired:
            yield _GONE

    async def _lines(self, size: int) -> AsyncIterator[bytes]:
        """Yield the lines to the end of the stream. Raises _OddEventError for what kopf would not survive."""
        rest, heard, begun = b"", False, time.monotonic()
        if self._response is None:
            return
        async for chunk in self._response.content.iter_chunked(size):
            self._session.pulse.last = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, lines):
                _check_event(line)
                heard = True
                if time.monotonic() - begun >= self._session.settings.poll_seconds:
                    self._trouble.end()  # the watch has lasted long enough to count as working
                yield line + b"\n"
            if len(rest) > _LONGEST_EVENT:
                raise _OddEventError(f"an event has more than {_LONGEST_EVENT} bytes")
        if rest.strip():
            raise _OddEventError("it ended in the middle of an event")
        if not heard:
            await asyncio.sleep(_EMPTY_SECONDS)


class _OddEventError(Exception):
    """An event of a watch that cannot be read."""


def _check_event(line: bytes) -> None:
    """Raises _OddEventError for an event that kopf would not survive, and for an error."""
    try:
        event = json.loads(line)
        kind, body = event["type"], event["object"]
        if kind == "ERROR":
            raise _OddEventError(f"{body.get('message') or 'no reason given'} ({body.get('code')})")
        if kind != "BOOKMARK":
            listed(body)
    except UNREADABLE as error:
        raise _OddEventError(f"an event has an unexpected form ({type(error).__name__})") from None


async def _unread(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    return response


async def _checked(response: aiohttp.ClientResponse) -> Any:
    """The answer to a list or to discovery. Raises ApiError while discovery does not name the resource yet."""
    async with response:
        answer = json.loads(await response.read())
    path = response.url.path
    named = {"/apis": (GROUP, "groups"), f"/apis/{GROUP}/{VERSION}": (PLURAL, "resources")}.get(path)
    if named is not None and named[0] not in {each["name"] for each in answer[named[1]]}:
        raise ApiError(404, "it is not in the API server's discovery")
    for each in answer.get("items") or ():
        listed(each)
    return answer


def _advice(rejected: ApiError, *, again: bool = False) -> str:
    """What to do about a list that is rejected. `again`: it was served before."""
    if rejected.status == 404:
        what = f"{_NAME} was deleted, with all its resources" if again else f"The CRD {_NAME} is not installed"
        return f"{what}: run `kubectl apply -f crds/`. The operator continues when it is installed."
    if rejected.status == 403:
        return (
            f"The operator is not allowed to list {_NAME}: apply deploy/, or give its service account the verbs"
            f" get, list and watch on them. The API server says: {rejected}"
        )
    return f"{_NAME} cannot be listed: {rejected}"
