"""Finds mistakes in a credential's form: quotation marks, base64 applied twice, a credential of another kind.

The operator, service mode and `check` share these rules. No answer quotes the value.
"""

import base64
import binascii
import re
from enum import Enum


class Credential(Enum):
    """The credentials of a connector; the value is what a message calls it."""

    CLIENT_ID = "C1's client ID"
    CLIENT_SECRET = "C1's client secret"  # noqa: S105
    API_TOKEN = "a Buildkite API token"  # noqa: S105


_FORMS = {
    Credential.CLIENT_ID: re.compile(r"[^\s@:/]+@[^\s@/]+/\S*"),
    Credential.CLIENT_SECRET: re.compile(r"secret-token:\S+"),
    Credential.API_TOKEN: re.compile(r"bk(ua|tx)_\S+"),
}
"""The usual forms. Other tokens are valid too: public-key tokens are JWTs, and old ones have no prefix."""
_OTHER_TOKENS = {"bkct_": "an agent token, with which agents register", "bkpat_": "a portal's token"}
_USER_TOKEN = re.compile(r"bkua_[0-9a-f]{40}", re.IGNORECASE)
_ENV_LINE = re.compile(r"(export\s*)?[A-Z][A-Z0-9_]*=[^=\s]")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_BYTE_ORDER_MARK = "\ufeff"


def mistake(value: str, kind: Credential) -> str | None:
    """The end of a sentence about `value` ("The API token …"), None if its form is fine. Outer white space is."""
    text = value.strip()
    if kind is Credential.CLIENT_SECRET:
        text = "".join(text.split())  # the reference client skips line breaks: a secret wrapped at 76 columns works
    found = _in_form(text, kind)
    if found is None and recognize(text) is not kind:
        found = _of_another_kind(text)
    if found is None and not (text.isascii() and text.isprintable() and " " not in text):
        found = "has a space, line break or other character in it that no credential has: keep only the value"
    return found


def recognize(text: str) -> Credential | None:
    """Which credential `text` is, by its form."""
    return next((kind for kind, form in _FORMS.items() if form.fullmatch(text)), None)


def token_hint(token: str) -> str:
    """What to add when Buildkite rejects a token that has the prefix, but not the length, of a user token."""
    if token.startswith("bkua_") and not _USER_TOKEN.fullmatch(token):
        return ": it is not bkua_ followed by 40 hexadecimal digits, so it was cut short or edited"
    return ""


def _in_form(text: str, kind: Credential) -> str | None:
    if text.startswith(_BYTE_ORDER_MARK):
        return "begins with a byte-order mark: save its file as UTF-8 without one"
    if text and (text[0] in _QUOTES or text[-1] in _QUOTES):
        return "has quotation marks around it: remove them"
    if _ENV_LINE.match(text):
        return "is a line of an env file: keep only what follows the ="
    if kind is Credential.API_TOKEN and text.lower().startswith("bearer "):
        return "begins with 'Bearer': keep only the token"
    if _is_encoded(text):
        return "is base64-encoded once too often: a Secret's data is encoded once, stringData and variables are not"
    return None


def _of_another_kind(text: str) -> str | None:
    for prefix, what in _OTHER_TOKENS.items():
        if text.startswith(prefix):
            return f"is {what}: create an API access token in Buildkite (Personal Settings, API Access Tokens)"
    other = recognize(text)
    return f"holds {other.value}: the two values are probably swapped" if other is not None else None


def _is_encoded(text: str) -> bool:
    """Whether `text` is base64 of a credential; `base64` wraps long values into lines."""
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return False
    return recognize(decoded) is not None or decoded.startswith(tuple(_OTHER_TOKENS))
