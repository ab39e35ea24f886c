"""What C1 refuses in a text, by the limits that its message definitions declare.

Texts come from people: any Unicode, any length. No odd name may lose a whole snapshot.
"""

import re

from buildkite_connector.model.failure import Failure, Reason

DISPLAY_NAME_BYTES = 1024
DESCRIPTION_BYTES = 2048
LINK_BYTES = 1024
_ID_BYTES = 255

_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that count as letters or symbols and are drawn as nothing: people without a name use them."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ATOM = r'[^\x00-\x20\x7f"(),.:;<>@\[\\\]]+'
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LINK = re.compile(
    rf"https://{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?(?:[/?#](?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{{2}})*)?"
)
_EMAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({_LABEL}(?:\.{_LABEL})*)")


def valid_unicode(text: str) -> str:
    r"""`text` with each lone surrogate (JSON can carry them: `"\ud800"`) replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def cut(text: str, limit: int) -> str:
    """`text` as valid Unicode in at most `limit` bytes of UTF-8, cut between characters."""
    if len(text) * 4 <= limit:
        return valid_unicode(text)
    return valid_unicode(text).encode()[:limit].decode(errors="ignore")


def display_name(*names: str) -> str:
    """What C1 shows: the first of the names that is not blank, within C1's limit. The last is an id, never blank."""
    return next(text for text in (cut(name, DISPLAY_NAME_BYTES) for name in names) if not _is_blank(text))


def _is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: it is empty, or spaces, controls and marks of no width."""
    return all(character in _UNSEEN or character.isspace() or not character.isprintable() for character in text)


def is_email(text: str) -> bool:
    """Whether C1 takes `text` (valid Unicode) for an address: a dot-atom of at most 64 bytes, `@`, and a host name.

    Quoted local parts, though legal, are not taken.
    """
    match = _EMAIL.fullmatch(text)
    if match is None:
        return False
    local, host = match.groups()
    return len(local.encode()) <= 64 and len(host) <= 253 and len(text.encode()) <= 254


def is_link(text: str) -> bool:
    """Whether C1 takes `text` for a page's address."""
    return len(text) <= LINK_BYTES and _LINK.fullmatch(text) is not None


def checked_id(kind: str, text: str) -> str:
    """`text` when C1 can hold it as the id of a `kind`: ids are never altered. Raises Failure."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= _ID_BYTES:
        return text
    raise Failure(
        Reason.SNAPSHOT_INVALID,
        f"Buildkite gave one {kind} the id {text[:80]!r}; expected 1 to {_ID_BYTES} printable ASCII characters (a "
        "UUID). It would not be the same id in C1, so nothing was written; ask Buildkite's support about it.",
    )
