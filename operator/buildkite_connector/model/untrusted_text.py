"""Makes text that a server sent fit to be shown: no credential in it, printable, one line, bounded.

Every adapter quotes servers through a `Redactor`, and nothing else: what it returns may stand in a condition, an
event, a log line or a command's output.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote, quote_plus

LONGEST_QUOTE = 300
"""Characters of a server's text that are shown."""
PLACEHOLDER = "[redacted]"
SHORTEST_SECRET = 6
"""Characters; anything shorter is no credential, and taking it out would only garble the text."""
SHORTEST_PREFIX = 8
"""Characters of a credential that are taken out at the end of a text that was cut off."""


class Redactor:
    """Takes the given credentials out of text: as they are, percent-encoded or in base64.

    They are found in either case, and with backslashes, blanks or characters that cannot be printed between their own.

    It keeps the credentials alone and derives their forms at each use: a thousand connectors keep one each, and
    failures are rare.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(dict.fromkeys(secret for secret in secrets if len(secret) >= SHORTEST_SECRET))

    def with_secrets(self, *secrets: str) -> "Redactor":
        """A redactor that also takes these out."""
        return Redactor((*self._secrets, *secrets))

    def redact(self, text: str) -> str:
        """`text` without the credentials; a credential cut off at the end of the text goes too."""
        return _redact(text, self._forms())

    def quote(self, text: str, limit: int = LONGEST_QUOTE) -> str:
        """`text` on one line of at most `limit` printable characters, without the credentials."""
        bounded = text[: 16 * limit]  # a hostile text must not cost time in proportion to its length
        forms = self._forms()
        printable = "".join(char if char.isprintable() else " " for char in _redact(bounded, forms))
        line = _redact(" ".join(printable.split()), forms)
        return line if len(line) <= limit else f"{_redact(line[: limit - 1], forms)}…"

    def _forms(self) -> frozenset[str]:
        return frozenset(_lowered(form.replace("\\", "")) for secret in self._secrets for form in _forms(secret))


def _redact(text: str, forms: frozenset[str]) -> str:
    # Sought is in what is left without blanks, control, bidi and other characters that no credential has, and without
    # backslashes, which JSON and Python's own repr put before some. A credential with a blank or a letter beyond ASCII
    # is sought in the text as it is.
    places: Sequence[int] = range(len(text))
    squeezed = text
    if not _is_plain(text):
        places = [place for place, char in enumerate(text) if _is_plain(char)]
        squeezed = "".join([text[place] for place in places])
    squeezed = _lowered(squeezed)
    spans = [(places[start], places[end - 1] + 1) for start, end in _all_spans(squeezed, forms)]
    if not all(map(_is_plain, forms)):
        spans += _all_spans(_lowered(text), forms)
    pieces, shown_to = [], 0
    for start, end in sorted(spans):
        if start >= shown_to:
            pieces += [text[shown_to:start], PLACEHOLDER]
        shown_to = max(shown_to, end)
    return "".join((*pieces, text[shown_to:]))


def _all_spans(text: str, forms: Iterable[str]) -> list[tuple[int, int]]:
    return [span for form in forms for span in _spans(text, form)]


def _spans(text: str, form: str) -> Iterator[tuple[int, int]]:
    """Where `form` stands in `text`, and where its beginning stands at the end of `text`."""
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + len(form))
    prefix = form[:SHORTEST_PREFIX]
    start = text.find(prefix, max(0, len(text) - len(form) + 1))
    while start >= 0:
        if form.startswith(text[start:]):
            yield start, len(text)
            return
        start = text.find(prefix, start + 1)


def _is_plain(text: str) -> bool:
    """Whether each character is one of ASCII's that leave a mark on paper, and none an escape."""
    return text.isascii() and text.isprintable() and " " not in text and "\\" not in text


def _lowered(text: str) -> str:
    """In lower case where it is ASCII: case never changes the length, so that places in one are those in the other."""
    return text.lower() if text.isascii() else "".join(char.lower() if char.isascii() else char for char in text)


def _forms(secret: str) -> Iterator[str]:
    """How a server may send a credential back."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield f"%{secret.encode('utf-8', 'surrogatepass').hex('%')}"
    raw = secret.encode("utf-8", "surrogatepass")
    for offset in range(3):  # base64 of a longer text that holds the secret shows one of three alignments
        encoded = base64.b64encode(bytes(offset) + raw).decode()
        if offset == 0:
            yield from (encoded, encoded.rstrip("="))
        start = (0, 2, 3)[offset]
        whole = len(encoded.rstrip("=")) - (0 if (offset + len(raw)) % 3 == 0 else 1)
        part = encoded[start:whole]
        if len(part) >= SHORTEST_SECRET:
            yield part
            yield part.replace("+", "-").replace("/", "_")
            yield quote(part, safe="")
