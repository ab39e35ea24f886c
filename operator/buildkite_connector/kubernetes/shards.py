"""Which of several processes serves a connector, when they divide the connectors among themselves.

A connector's shard is a number that every process computes alike, now and in later versions: the first 8 bytes of the
SHA-256 of `<namespace>.<name>`, big-endian, modulo the number of shards.
"""

import hashlib
import re
from dataclasses import dataclass

from buildkite_connector.kubernetes.informer import EventHandler
from buildkite_connector.kubernetes.resource import BrokenConnector, ObservedConnector

_ORDINAL = re.compile(r".+-([0-9]{1,9})")


def shard_of(namespace: str, name: str, count: int) -> int:
    digest = hashlib.sha256(f"{namespace}.{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


@dataclass(frozen=True, slots=True)
class Shard:
    """The connectors of `index`, of `count` shards; all when there is one."""

    index: int = 0
    count: int = 1

    def has(self, namespace: str, name: str) -> bool:
        return shard_of(namespace, name, self.count) == self.index

    def lease(self, name: str) -> str:
        """The Lease of this shard, of the operator whose unsharded Lease has this name."""
        return name if self.count == 1 else f"{name}-{self.index}-of-{self.count}"


def shard_of_pod(pod: str, count: int) -> Shard:
    """The shard of a StatefulSet's pod. With more pods than shards, those beyond are standbys of the first ones.

    Raises ValueError with a sentence when the pod's name has no ordinal.
    """
    if count == 1:
        return Shard()
    match = _ORDINAL.fullmatch(pod)
    if match is None:
        raise ValueError(
            f"{count} shards need a pod whose name ends in a number, as a StatefulSet makes them; POD_NAME is {pod!r}"
        )
    return Shard(int(match[1]) % count, count)


@dataclass(frozen=True, slots=True)
class ShardFilter:
    """Hands on what happens to the connectors of one shard."""

    handler: EventHandler
    shard: Shard

    def observe(self, resource: ObservedConnector | BrokenConnector) -> None:
        if self.shard.has(resource.namespace, resource.name):
            self.handler.observe(resource)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        if self.shard.has(namespace, name):
            self.handler.forget(namespace, name, uid)
