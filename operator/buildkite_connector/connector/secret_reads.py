"""Reads the Secrets of all connectors again, a few a second: one loop for the whole process."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from buildkite_connector.connector.connector import Connector
from buildkite_connector.model.spec import ConnectorKey, namespace_of
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import RoundRobin

logger = logging.getLogger(__name__)

READS_APART = 0.2
"""Seconds between two routine reads of Secrets: at most five a second, however many connectors there are."""
LOOK_SECONDS = 2.0
"""How often to look which Secrets are due."""


async def reread_secrets(connectors: Callable[[], Iterable[Connector]], clock: Clock) -> None:
    """Read each connector's Secret again when it is due, until cancelled.

    At most five a second; the namespaces take turns, so that one with few connectors never waits for one with many.
    """
    turns: RoundRobin[Connector] = RoundRobin()
    waiting = set[ConnectorKey]()
    while True:
        now, due = clock.monotonic(), list[tuple[float, ConnectorKey, Connector]]()
        for connector in connectors():
            with _logged(connector):
                if (at := connector.reread_at) is not None and at <= now:
                    due.append((at, connector.key, connector))
        for _, key, connector in sorted(due, key=lambda each: each[:2]):
            if key not in waiting:
                waiting.add(key)
                turns.add(namespace_of(key), connector)
        until = now + LOOK_SECONDS
        while (now := clock.monotonic()) < until:
            each = turns.pop()
            if each is None:
                await clock.sleep(until - now)
                break
            waiting.discard(each.key)
            with _logged(each):
                if (at := each.reread_at) is not None and at <= now:
                    each.reread()
                    await clock.sleep(READS_APART * each.secrets)


@contextmanager
def _logged(connector: Connector) -> Iterator[None]:
    """An error of one connector stops no other."""
    try:
        yield
    except Exception:
        logger.exception("a Secret could not be read again", extra={"connector": connector.name})
