"""The forms of credentials, and what can be seen to be wrong with a value before it is used. No answer quotes it."""

import base64
import binascii
import re
from enum import Enum


class Credential(Enum):
    """The credentials of a connector; the value is what a message calls it."""

    CLIENT_ID = "C1's client ID"
    CLIENT_SECRET = "C1's client secret"  # noqa: S105
    API_TOKEN = "a Buildkite API token"  # noqa: S105
    EXCHANGE_CLIENT_ID = "the client ID of a token exchange app"
    EXCHANGE_KEY = "the private key of a token exchange app"
    PORTAL_TOKEN = "the service token of a Buildkite portal"  # noqa: S105
    EXCHANGE_SUBJECT = "the e-mail address or UUID of the person as whom the connector acts"


_FORMS = {
    Credential.CLIENT_ID: re.compile(r"[^\s@:/]+@[^\s@/]+/\S*"),
    Credential.CLIENT_SECRET: re.compile(r"secret-token:\S+"),
    Credential.API_TOKEN: re.compile(r"bk(ua|tx)_\S+"),
    Credential.EXCHANGE_CLIENT_ID: re.compile(r"[0-9a-f]{20}"),
    Credential.EXCHANGE_SUBJECT: re.compile(
        r"[^\s@:/]+@[^\s@:/]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
    ),
    Credential.EXCHANGE_KEY: re.compile(r"-----BEGIN ?[A-Z ]*PRIVATE ?KEY-----.*", re.DOTALL),
}
"""The usual forms. Other tokens are valid too: public-key tokens are JWTs, and old ones have no prefix. Of a portal's
own token no form is known."""
_MAY_BE_A_PORTALS = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
"""Client IDs of apps and UUIDs of people look like this, and a portal's own token may."""
_OTHER_TOKENS = {
    "bkct_": "an agent token, with which agents register",
    "bkpat_": "a portal's token that expires within hours",
}
_INSTEAD = {
    Credential.PORTAL_TOKEN: "create a long-lived service token on the portal's Security page (Organization Settings,"
    " Integrations, Portals)"
}
_SWAPPED = "the two values are probably swapped"
_NEW_API_TOKEN = "create an API access token in Buildkite (Personal Settings, API Access Tokens)"  # noqa: S105
_USER_TOKEN = re.compile(r"bkua_[0-9a-f]{40}", re.IGNORECASE)
_ENV_LINE = re.compile(r"(export\s*)?[A-Z][A-Z0-9_]*=[^=\s]")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_BYTE_ORDER_MARK = "\ufeff"
_PEM_LABEL = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PRIVATE_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")


def mistake(value: str, kind: Credential) -> str | None:
    """The end of a sentence about `value` ("The API token …"), None if its form is fine. Outer white space is."""
    text = value.strip()
    if kind is Credential.CLIENT_SECRET:
        text = "".join(text.split())  # the reference client skips line breaks: a secret wrapped at 76 columns works
    found, recognized = _in_form(text, kind), recognize(text)
    cut_short = kind is Credential.CLIENT_ID and recognized is Credential.EXCHANGE_SUBJECT  # without its /REST
    if found is None and recognized is not kind and not cut_short:
        found = _of_another_kind(text, kind)
    if kind is Credential.EXCHANGE_KEY:
        return found or (_in_pem(text) if text else None)
    if text and found is None and kind is Credential.EXCHANGE_SUBJECT and recognized is not kind:
        found = "is neither an e-mail address nor a UUID"
    if found is None and not (text.isascii() and text.isprintable() and " " not in text):
        found = "has a space, line break or other character that is not part of a credential: keep only the value"
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
    if kind in (Credential.API_TOKEN, Credential.PORTAL_TOKEN) and text.lower().startswith("bearer "):
        return "begins with 'Bearer': keep only the token"
    if _is_encoded(text):
        return "is base64-encoded once too often: a Secret's data is encoded once, stringData and variables are not"
    return None


def with_line_breaks(pem: str) -> str:
    """A private key with its line breaks, where \\n may stand for them: an env file of Docker's has no others."""
    return pem.replace("\\n", "\n")


def _in_pem(value: str) -> str | None:
    """What is wrong with a private key, as far as it can be seen without reading the key itself."""
    text = with_line_breaks(value)
    labels = _PEM_LABEL.findall(text)
    keys = [label for label in labels if label in _PRIVATE_KEYS]
    end = f"-----END {keys[0] if keys else ''}-----"
    encrypted = "ENCRYPTED PRIVATE KEY" in labels or "Proc-Type: 4,ENCRYPTED" in text
    public = any(label.endswith("PUBLIC KEY") for label in labels)
    troubles = (
        (encrypted, "is encrypted with a passphrase: decrypt it (openssl pkey -in FILE)"),
        (
            "OPENSSH PRIVATE KEY" in labels,
            "is in OpenSSH's format: convert a copy of it (ssh-keygen -p -m PKCS8 -f FILE)",
        ),
        (public and not keys, "is a public key: Buildkite gets the public key, and the private key belongs here"),
        ("CERTIFICATE" in labels and not keys, "is a certificate: its private key belongs here"),
        (not keys, "is not a private key in PEM format, which begins with -----BEGIN PRIVATE KEY-----"),
        (len(keys) > 1, "has several private keys: keep one of them"),
        (end not in text, f"is cut short: it has no {end}"),
        ("\n" not in text, "has lost its line breaks: write them, in YAML below a |"),
    )
    return next((what for is_so, what in troubles if is_so), None)


def _of_another_kind(text: str, kind: Credential) -> str | None:
    for prefix, what in _OTHER_TOKENS.items():
        if text.startswith(prefix):
            return f"is {what}: {_INSTEAD.get(kind, _NEW_API_TOKEN)}"
    if kind is Credential.PORTAL_TOKEN and _MAY_BE_A_PORTALS.fullmatch(text):
        return None
    other = recognize(text)
    return f"holds {other.value}: {_INSTEAD.get(kind, _SWAPPED)}" if other is not None else None


def _is_encoded(text: str) -> bool:
    """Whether `text` is base64 of a credential; `base64` wraps long values into lines."""
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return False
    return recognize(decoded) is not None or decoded.startswith(tuple(_OTHER_TOKENS))
