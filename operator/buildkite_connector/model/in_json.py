"""How a field of the status stands in the JSON, where its name and type do not say."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class InJson(Enum):
    """INLINE: the object's own fields stand in its place. NOT_ZERO: left out while it is 0. NEVER: in memory only."""

    INLINE = auto()
    NOT_ZERO = auto()
    NEVER = auto()


ATOMIC: Final[Mapping[str, str]] = {"x-kubernetes-list-type": "atomic"}
"""For a list's schema: server-side apply replaces it as a whole."""
