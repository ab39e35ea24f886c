"""Sync ids: KSUIDs, the form that C1 gives and expects (27 base-62 characters that sort by time).

20 bytes, big-endian: seconds since 2014-05-13T16:53:20Z in 4, then 16 random ones.
"""

from collections.abc import Callable
from datetime import datetime

from buildkite_connector.model.snapshot import SyncID

_EPOCH = 1_400_000_000
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 27


def new_sync_id(now: datetime, randomness: Callable[[int], bytes]) -> SyncID:
    """A sync id of `now` (aware); `randomness` gives that many random bytes, as `secrets.token_bytes` does.

    A clock that is off beyond what 4 bytes hold gives the nearest time that they do.
    """
    seconds = min(max(int(now.timestamp()) - _EPOCH, 0), 2**32 - 1)
    number = int.from_bytes(seconds.to_bytes(4, "big") + randomness(16), "big")
    digits = ""
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return SyncID(digits)
