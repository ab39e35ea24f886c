"""Makes text that a server sent fit to be shown: no credential in it, printable, one line, bounded.

Every adapter quotes servers through a `Redactor`, and nothing else: what it returns may stand in a condition, an
event, a log line or a command's output.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from urllib.parse import quote

LONGEST_QUOTE = 300
"""Characters of a server's text that are shown."""
PLACEHOLDER = "[redacted]"
SHORTEST_SECRET = 6
"""Characters; anything shorter is no credential, and taking it out would only garble the text."""
SHORTEST_PREFIX = 8
"""Characters of a credential's beginning that are taken out at the end of a text that was cut off."""
SHORTEST_PIECE = 12
"""Characters of a credential, from any place in it, that are taken out anywhere in a text."""
LONGEST_SECRET = 8192
"""Characters of a credential that are looked for. Where credentials are read, none that is longer is taken."""

_FEW = 64
"""Places in a text that are worth a closer look one by one."""

_BACKSLASH_ESCAPE = re.compile(
    r"(?<!\\)\\+u00([2-7][0-9a-f])"  # JSON's and JavaScript's, however often escaped again
    r"|(?<!\\)\\+u\{0*([2-7][0-9a-f])\}"
    r"|(?<!\\)\\+x([2-7][0-9a-f])",
    re.IGNORECASE,
)
_PERCENT_ESCAPE = re.compile(r"%(?:25)*(?:u00)?([2-7][0-9a-f])", re.IGNORECASE)
_HEX_ESCAPE = re.compile(r"&(?:amp;)*#x0{0,6}([2-7][0-9a-f]);", re.IGNORECASE)
_DECIMAL_ESCAPE = re.compile(r"&(?:amp;)*#0{0,6}([3-9][0-9]|1[01][0-9]|12[0-6]);")
_NAMED_ESCAPE = re.compile(r"&(?:amp;)*(amp|lt|gt|quot|apos);")
_PLAIN = frozenset(map(chr, range(0x21, 0x7F))) - {"\\"}
"""ASCII's characters that leave a mark on paper, without the one that escapes others."""
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")


class Redactor:
    """Takes the given credentials out of text, whole or in pieces of SHORTEST_PIECE characters and more.

    They are found as they are, escaped (percent, `\\u`, `\\x`, HTML), in hexadecimal and in base64; in either case; and
    with backslashes, blanks or characters that cannot be printed between their own.

    `private` is taken out as well. It may have parts in common with ids and slugs, as a host and an organization have.

    It keeps the credentials alone and derives their forms at each use: a thousand connectors keep one each, and
    failures are rare.
    """

    def __init__(self, secrets: Iterable[str] = (), private: Iterable[str] = ()) -> None:
        self._secrets = _sought(secrets)
        self._private = _sought(private)

    def with_secrets(self, *secrets: str) -> "Redactor":
        """A redactor that also takes these out."""
        return Redactor((*self._secrets, *secrets), self._private)

    def without(self, public: str) -> "Redactor":
        """A redactor that leaves in what was private and has become public."""
        return Redactor(self._secrets, (text for text in self._private if text != public))

    def holds_secret(self, text: str) -> bool:
        """Whether `text` holds a credential or a piece of one; private texts do not count."""
        return _redact(text, _patterns(self._secrets)) != text

    def redact(self, text: str) -> str:
        """`text` without the credentials; a credential cut off at the end of the text goes too."""
        return _redact(text, _patterns(self._secrets + self._private))

    def quote(self, text: str, limit: int = LONGEST_QUOTE) -> str:
        """`text` on one line of at most `limit` printable characters, without the credentials."""
        bounded = text[: 16 * limit]  # a hostile text must not cost time in proportion to its length
        patterns = _patterns(self._secrets + self._private)
        printable = "".join(char if char.isprintable() else " " for char in _redact(bounded, patterns))
        line = _redact(" ".join(printable.split()), patterns)
        return line if len(line) <= limit else f"{_redact(line[: limit - 1], patterns)}…"


@dataclass(frozen=True, slots=True, repr=False)
class _Pattern:
    """Finds each of some forms, and every piece of them of at least `width` characters, in time linear in the text.

    `grams` are parts of the forms, so close to one another that each piece holds one whole: a text without them holds
    no piece. `short` are forms that are found whole only.
    """

    forms: tuple[str, ...]
    joined: str
    grams: frozenset[str]
    gram: int
    short: tuple[str, ...]
    width: int
    squeezes: bool

    @classmethod
    def of(cls, forms: Iterable[str], width: int, gram: int, *, squeezes: bool = True) -> "_Pattern":
        found = tuple(dict.fromkeys(_lowered(form) for form in forms if len(form) >= SHORTEST_SECRET))
        stride = width - gram + 1
        grams = frozenset(
            form[at : at + gram] for form in found for at in range(0, max(0, len(form) - gram) + 1, stride)
        )
        short = tuple(form for form in found if len(form) < width)
        return cls(found, "\n".join(found), grams, gram, short, width, squeezes)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where pieces stand in `text`, which is in lower case, and where a form's beginning stands at its end."""
        if not self.forms:
            return
        gram, grams, width, looked_to = self.gram, self.grams, self.width, 0
        hits = [at for at in range(len(text) - gram + 1) if text[at : at + gram] in grams]
        # A look-up in a set costs the same however long the forms are; to make one pays where there are many hits.
        known = self.joined if len(hits) < _FEW else {self.joined[at : at + width] for at in range(len(self.joined))}
        begin = end = -1
        for at in hits:
            for start in range(max(looked_to, at + gram - width), min(at, len(text) - width) + 1):
                if text[start : start + width] in known:
                    if start >= end:
                        if end >= 0:
                            yield begin, end
                        begin = start
                    end = start + width
            looked_to = at + 1
        if end >= 0:
            yield begin, end
        for form in self.short:
            start = text.find(form)
            while start >= 0:
                yield start, start + len(form)
                start = text.find(form, start + 1)
        for form in self.forms:
            for length in range(min(width, len(form)) - 1, SHORTEST_PREFIX - 1, -1):
                if text.endswith(form[:length]):
                    yield len(text) - length, len(text)
                    break


def _sought(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text[:LONGEST_SECRET] for text in texts if len(text) >= SHORTEST_SECRET))


def _patterns(secrets: Iterable[str]) -> "Sequence[_Pattern]":
    """How a server may send the credentials back, once its escapes are undone."""
    plain = list(secrets)
    raw = [form.encode("utf-8", "surrogatepass") for form in plain]
    return (
        _Pattern.of((each for form in plain for each in _as_text(form)), SHORTEST_PIECE, gram=8),
        _Pattern.of((form.hex() for form in raw), 2 * SHORTEST_PIECE, gram=16),
        # 12 bytes in the middle of a longer text have 14 characters of base64 that depend on them alone.
        _Pattern.of((part for form in raw for part in _in_base64(form)), 14, gram=8),
        # Letters beyond ASCII, and blanks, are dropped from what the others look at.
        _Pattern.of((form for form in plain if not _is_plain(form)), SHORTEST_PIECE, gram=8, squeezes=False),
    )


def _redact(text: str, patterns: "Sequence[_Pattern]") -> str:
    # Credentials are sought in the text as it is and in the text with its escapes undone. Blanks, control, bidi and
    # other characters that no credential has are passed over, and backslashes, which JSON and Python's own repr put
    # before some.
    spans = []
    for view in (_View.of(text), *_View.decoded(text)):
        squeezed = view.squeezed()
        for pattern in patterns:
            chosen = squeezed if pattern.squeezes else view
            spans += [chosen.place(start, end) for start, end in pattern.spans(chosen.text)]
    pieces: list[str] = []
    shown_to = 0
    for start, end in sorted(spans):
        if start > shown_to or not pieces:
            pieces += [text[shown_to:start], PLACEHOLDER]
        shown_to = max(shown_to, end)
    return "".join((*pieces, text[shown_to:]))


@dataclass(frozen=True, slots=True, repr=False)
class _View:
    """A text as it is searched: in lower case; `starts` and `ends` say where each character stands in the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str) -> "_View":
        return cls(_lowered(text), range(len(text)), range(1, len(text) + 1))

    @classmethod
    def decoded(cls, text: str) -> "Iterator[_View]":
        """With escapes as the characters that they stand for: those of each kind, and of each choice of kinds.

        A credential may hold what looks like an escape of another kind than the text that quotes it.
        """
        kinds = [found for find in _ESCAPES if (found := list(find(text)))]
        for count in range(1, len(kinds) + 1):
            for chosen in combinations(kinds, count):
                yield cls._undone(text, chain.from_iterable(chosen))

    @classmethod
    def _undone(cls, text: str, found: "Iterable[_Escape]") -> "_View":
        escapes = sorted(found, key=lambda escape: (escape[0], -escape[1]))
        chars: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        seen_to = 0
        for start, end, char in [*escapes, (len(text), len(text), "")]:
            if start < seen_to:
                continue
            chars += text[seen_to:start]
            starts += range(seen_to, start)
            ends += range(seen_to + 1, start + 1)
            if char:
                chars.append(char)
                starts.append(start)
                ends.append(end)
            seen_to = end
        return cls(_lowered("".join(chars)), starts, ends)

    def squeezed(self) -> "_View":
        """Without the characters that are passed over."""
        if _is_plain(self.text):
            return self
        kept = [at for at, char in enumerate(self.text) if char in _PLAIN]
        return _View(
            "".join([self.text[at] for at in kept]),
            [self.starts[at] for at in kept],
            [self.ends[at] for at in kept],
        )

    def place(self, start: int, end: int) -> tuple[int, int]:
        return self.starts[start], self.ends[end - 1]


_Escape = tuple[int, int, str]
"""Where an escape begins and ends, and the character that it stands for."""


def _backslash_escapes(text: str) -> Iterator[_Escape]:
    return _by_code(_BACKSLASH_ESCAPE, text, 16) if "\\" in text else iter(())


def _percent_escapes(text: str) -> Iterator[_Escape]:
    return _by_code(_PERCENT_ESCAPE, text, 16) if "%" in text else iter(())


def _html_escapes(text: str) -> Iterator[_Escape]:
    if "&" in text:
        yield from _by_code(_HEX_ESCAPE, text, 16)
        yield from _by_code(_DECIMAL_ESCAPE, text, 10)
        for match in _NAMED_ESCAPE.finditer(text):
            yield match.start(), match.end(), _NAMED[match[1]]


_ESCAPES = (_backslash_escapes, _percent_escapes, _html_escapes)


def _by_code(pattern: re.Pattern[str], text: str, base: int) -> Iterator[_Escape]:
    for match in pattern.finditer(text):
        yield match.start(), match.end(), chr(int(match[match.lastindex or 0], base))


def _in_base64(raw: bytes) -> Iterator[str]:
    """What base64 of a longer text that holds `raw` shows of it: one of three, by where it stands."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw).decode()
        whole = len(encoded.rstrip("=")) - (0 if (offset + len(raw)) % 3 == 0 else 1)
        part = encoded[(0, 2, 3)[offset] : whole]
        if offset == 0:
            yield encoded.rstrip("=")
        yield part
        if "+" in part or "/" in part:
            yield part.replace("+", "-").replace("/", "_")


def held_in_base64(secret: str) -> str:
    """What a credential holds that is base64 itself, as a JWK with its private key, where that is text.

    It is one text, however many runs of base64 there are: each secret of a redactor costs time at every use.
    """
    held = []
    for match in _BASE64.finditer(secret):
        encoded = match[0].rstrip("=").replace("+", "-").replace("/", "_")
        try:
            text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if text.isprintable() and len(text) >= SHORTEST_PIECE:
            held.append(text)
    return "".join(held)


def _as_text(secret: str) -> Iterator[str]:
    """A credential as it stands in a squeezed text, whose escapes were undone or not."""
    yield _squeezed(secret)
    decoded = list(_View.decoded(secret))
    for each in decoded:  # what looks like an escape in it is undone with the others
        yield _squeezed(each.text)
    if decoded or not secret.isascii():
        yield quote(secret, safe="", errors="surrogatepass")


def _squeezed(text: str) -> str:
    return "".join(filter(_PLAIN.__contains__, text))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "\\" not in text


def _lowered(text: str) -> str:
    """In lower case where it is ASCII: case never changes the length, so that places in one are those in the other."""
    return text.lower() if text.isascii() else "".join(char.lower() if char.isascii() else char for char in text)
