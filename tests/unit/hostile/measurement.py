"""What one hostile answer did to the process that got it, and which of its bounds that breaks."""

import base64
import re
from dataclasses import dataclass
from urllib.parse import quote

from unit.hostile.rows import Row

SHORTEST_PART = 12
"""Characters in a row of a credential that nobody may be shown."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a row did. Memory in MB over the baseline, times in seconds; `error`: the exception's type, or empty."""

    seconds: float
    ended: bool
    peak: float
    kept: float
    stall: float
    neighbour: float
    neighbour_syncs: int
    tasks_left: int
    """Of the event loop, once all that the row opened is closed."""
    error: str
    message: str
    shown: str
    """The exception as text and as repr, and everything that was logged."""

    def broken(self, row: Row) -> list[str]:
        """Each bound that was not kept, in one sentence; empty when all were."""
        bounds, wrong = row.bounds, []
        if not self.ended or self.seconds > bounds.ends_within:
            wrong.append(f"it took {self.seconds:.1f} s and may take {bounds.ends_within} s")
        if self.peak > bounds.peak:
            wrong.append(f"memory grew by {self.peak:.0f} MB and may grow by {bounds.peak:.0f} MB")
        if self.kept > bounds.kept:
            wrong.append(f"{self.kept:.0f} MB were not given back, {bounds.kept:.0f} MB may stay")
        if self.stall > bounds.stall:
            wrong.append(f"the event loop stood still for {self.stall * 1000:.0f} ms")
        if self.neighbour > bounds.neighbour or not self.neighbour_syncs:
            wrong.append(f"a neighbour's sync took {self.neighbour:.2f} s")
        if self.tasks_left:
            wrong.append(f"{self.tasks_left} tasks were left behind")
        wrong += self._wrong_words(row)
        wrong += [
            f"a credential was shown in {found!r}" for secret in row.secrets for found in leaks(self.shown, secret)
        ]
        return wrong

    def _wrong_words(self, row: Row) -> list[str]:
        if row.outcome is None:
            return [f"it failed with {self.error}: {self.message[:600]}"] if self.error else []
        if self.error not in {"Failure", "CallFailure", "ScopesMissing"}:
            return [f"expected a Failure, but it ended with {self.error or 'success'}: {self.message[:600]}"]
        wrong = []
        if not re.search(row.outcome, self.message):
            wrong.append(f"expected a sentence with {row.outcome!r}, but it is {self.message[:600]!r}")
        if len(self.message) > row.bounds.sentence or not self.message.isprintable():
            wrong.append(f"the sentence has {len(self.message)} characters or is not one line: {self.message[:700]!r}")
        return wrong


def leaks(text: str, secret: str) -> list[str]:
    """Parts of the secret that `text` shows: plain, percent-encoded, in base64, or with other characters between."""
    plain = "".join(text.split())
    squeezed = "".join(char for char in text if char.isascii() and char.isprintable() and char not in " \\")
    shown = "\n".join((text, plain, squeezed)).lower()
    forms = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
    parts = {form[at : at + SHORTEST_PART] for form in forms for at in range(max(1, len(form) - SHORTEST_PART + 1))}
    return sorted(part for part in parts if part.lower() in shown)
