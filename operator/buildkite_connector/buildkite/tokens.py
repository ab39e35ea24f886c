"""Where a connector's requests get their token from: one that the Secret holds, or those of `token_exchange`."""

from typing import Protocol

from buildkite_connector.model.credential_forms import Credential, mistake, token_hint
from buildkite_connector.model.directory import TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor


class TokenSource(Protocol):
    """Whose token goes with a request, and what is known of it."""

    @property
    def redactor(self) -> Redactor:
        """Knows the connector's credentials and each token that a server may send back now."""
        ...

    @property
    def hint(self) -> str:
        """What is odd about the token, for when it is refused."""
        ...

    @property
    def exchanged(self) -> bool:
        """Whether another token can take the place of one that Buildkite refuses."""
        ...

    async def current(self) -> str:
        """A token that is good for a request now. Raises Failure when an exchange fails."""
        ...

    def drop(self, refused: str) -> None:
        """Buildkite does not accept that token: `current` returns another one from now on, if there can be one."""
        ...

    async def facts(self) -> TokenFacts | None:
        """What an exchange said of the token; None: Buildkite's API is to be asked."""
        ...


class GivenToken:
    """A token that was made in Buildkite: a person's API token, or a portal's service token.

    Raises Failure TOKEN_INVALID for what cannot be one.
    """

    exchanged = False

    def __init__(self, token: str, redactor: Redactor, kind: Credential = Credential.API_TOKEN) -> None:
        self._token = _checked(token, kind)
        self.redactor = redactor.with_secrets(token)
        self.hint = token_hint(token)

    async def current(self) -> str:
        return self._token

    def drop(self, refused: str) -> None:
        """There is no other."""

    async def facts(self) -> None:
        return None


_NAMES = {Credential.API_TOKEN: "Buildkite API token", Credential.PORTAL_TOKEN: "portal token"}


def _checked(token: str, kind: Credential) -> str:
    """The token without white space around it, if it can be one.

    What HTTP cannot carry must not end up in a library's error message. Raises Failure TOKEN_INVALID.
    """
    wrong = mistake(token, kind) if token.strip() else "is empty"
    if wrong is None:
        return token.strip()
    raise Failure(Reason.TOKEN_INVALID, f"The {_NAMES[kind]} {wrong}.", remedy=Remedy.CREDENTIALS)
