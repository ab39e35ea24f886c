"""Ids as Buildkite writes them."""

import re

_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})(?(1)\})",
    re.I | re.A,
)


def canonical_id(text: str) -> str:
    """An id as Buildkite writes it: a UUID in any of its forms (upper case, braces, `urn:uuid:`) in lower case with
    dashes; anything else as it is. Ids are compared in this form."""
    found = _UUID.fullmatch(text)
    return "-".join(found.groups()[1:]).lower() if found else text
