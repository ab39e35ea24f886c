"""Makes text that a server sent fit to be shown: no credential in it, printable, one line, bounded.

Every adapter quotes servers through a `Redactor`, and nothing else: what it returns may stand in a condition, an
event, a log line or a command's output.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from urllib.parse import quote, quote_plus

LONGEST_QUOTE = 300
"""Characters of a server's text that are shown."""
PLACEHOLDER = "[redacted]"
SHORTEST_SECRET = 6
"""Characters; anything shorter is no credential, and taking it out would only garble the text."""
SHORTEST_PREFIX = 8
"""Characters of a credential that are taken out at the end of a text that was cut off."""


class Redactor:
    """Takes the given credentials out of text: as they are, percent-encoded, JSON-escaped or in base64."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = _pattern(self._forms)

    def with_secrets(self, *secrets: str) -> "Redactor":
        """A redactor that also takes these out."""
        more = Redactor(secrets)
        merged = Redactor()
        merged._forms = sorted({*self._forms, *more._forms}, key=len, reverse=True)
        merged._pattern = _pattern(merged._forms)
        return merged

    def redact(self, text: str) -> str:
        """`text` without the credentials; a credential cut off at the end of the text goes too."""
        if self._pattern is None:
            return text
        text = self._pattern.sub(PLACEHOLDER, text)
        lowered = text.lower()
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), SHORTEST_PREFIX - 1, -1):
                if lowered.endswith(form[:length].lower()):
                    return text[:-length] + PLACEHOLDER
        return text

    def quote(self, text: str, limit: int = LONGEST_QUOTE) -> str:
        """`text` on one line of at most `limit` printable characters, without the credentials."""
        bounded = text[: 16 * limit]  # a hostile text must not cost time in proportion to its length
        printable = "".join(char if char.isprintable() else " " for char in self.redact(bounded))
        line = self.redact(" ".join(printable.split()))
        return line if len(line) <= limit else f"{self.redact(line[: limit - 1])}…"


def _pattern(longest_first: Iterable[str]) -> re.Pattern[str] | None:
    """Finds each form, also with blanks, control, bidi or other foreign characters between its own."""
    forms = list(longest_first)
    return re.compile("|".join(map(_with_gaps, forms)), re.IGNORECASE) if forms else None


def _with_gaps(form: str) -> str:
    """Gaps are only between printable ASCII characters, which none is part of: matching takes linear time."""
    pattern = re.escape(form[:1])
    for before, after in pairwise(form):
        gap = r"[^!-~]*" if "!" <= before <= "~" and "!" <= after <= "~" else ""
        pattern += gap + re.escape(after)
    return pattern


def _forms(secret: str) -> Iterator[str]:
    """How a server may send a credential back."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield "".join(f"%{byte:02x}" for byte in secret.encode("utf-8", "surrogatepass"))
    yield secret.replace("\\", "\\\\").replace('"', '\\"')
    yield secret.replace("/", "\\/")
    raw = secret.encode("utf-8", "surrogatepass")
    for offset in range(3):  # base64 of a longer text that holds the secret shows one of three alignments
        encoded = base64.b64encode(bytes(offset) + raw).decode()
        start = (0, 2, 3)[offset]
        whole = len(encoded.rstrip("=")) - (0 if (offset + len(raw)) % 3 == 0 else 1)
        part = encoded[start:whole]
        if len(part) >= SHORTEST_SECRET:
            yield part
            yield part.replace("+", "-").replace("/", "_")
            yield quote(part, safe="")
