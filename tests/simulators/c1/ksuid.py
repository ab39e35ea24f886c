"""Ids of tasks, as C1 makes them."""

import secrets
import time

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KSUID_EPOCH = 1_400_000_000


def ksuid() -> str:
    """A K-sortable unique ID: 4 bytes of seconds and 16 random ones, in base 62, 27 characters."""
    number = int.from_bytes((int(time.time()) - KSUID_EPOCH).to_bytes(4) + secrets.token_bytes(16))
    digits = ""
    for _ in range(27):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits
