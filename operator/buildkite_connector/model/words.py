"""The words that messages have for resource types, for what is counted, and for Buildkite's tokens."""

from collections.abc import Iterable
from dataclasses import dataclass

_IN_WORDS = {
    "user": "accounts",
    "team": "teams",
    "organization": "organizations",
    "pipeline": "pipelines",
    "cluster": "clusters",
    "api_token": "API tokens",
    "api_tokens": "API tokens",
    "pipeline_access": "pipeline access grants",
}


def in_words(name: str) -> str:
    """A resource type, or one of the `Counts` by its field, in the plural: `accounts`, `API tokens`."""
    return _IN_WORDS.get(name, name.replace("_", " "))


def counted(amount: int, what: str) -> str:
    """An amount with its word: `1 account`, `2 accounts`."""
    return f"{amount} {what.removesuffix('s') if amount == 1 else what}"


def listed(words: Iterable[str]) -> str:
    """The words as a sentence lists them: `a`, `a and b`, `a, b and c`."""
    *others, last = [*words] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def capital(text: str) -> str:
    """`text` as it begins a sentence."""
    return f"{text[:1].upper()}{text[1:]}"


@dataclass(frozen=True, slots=True)
class TokenWords:
    """What a token is called: one that a person made in Buildkite, or one by token exchange.

    `they`: the `owner`, named before. `instead`: what to do where the owner may see too little; `access`: where the
    token cannot access an organization, and why that helps.
    """

    token: str
    owner: str
    they: str
    instead: str
    access: str
    why: str = ""


API_TOKEN = TokenWords(
    token="the API token",  # noqa: S106
    owner="the owner of the Buildkite API token",
    they="the owner",
    instead="use an administrator's token",
    access="create a new API token with access to it",
    why=": Buildkite cannot add a removed organization back to a token",  # so its FAQ says of Organization Access
)
EXCHANGED = TokenWords(
    token="the token exchange app's token",  # noqa: S106
    owner="the subject of the token exchange",
    they="the subject",
    instead="choose an administrator as the subject",
    access="check that the app and the subject belong to it",
)
