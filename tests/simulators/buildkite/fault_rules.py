"""Which request meets which effect of `faults`: first by script, one entry a request in order of arrival, then by rules
that match method, path and query.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulators.buildkite.api import Call
from simulators.buildkite.faults import Effect


@dataclass(slots=True)
class Rule:
    """An effect for the requests that match, after the first `skip` of them, `times` times or for ever.

    `path` is matched segment by segment, `*` standing for anything within one; `query` must be
    contained in the request's. `where` decides last.
    """

    effect: Effect
    path: str | None = None
    method: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    where: Callable[[Call], bool] | None = None
    times: int | None = 1
    skip: int = 0

    def matches(self, call: Call) -> bool:
        return (
            (self.method is None or self.method == call.method)
            and (self.path is None or _path_matches(self.path, call.path))
            and all(call.query.get(name) == value for name, value in self.query.items())
            and (self.where is None or self.where(call))
        )


def _path_matches(pattern: str, path: str) -> bool:
    wanted, found = pattern.split("/"), path.split("/")
    return len(wanted) == len(found) and all(map(fnmatchcase, found, wanted))


class Faults:
    """Which effect the next request meets, if any."""

    def __init__(self) -> None:
        self._script: deque[Effect | None] = deque()
        self._rules: list[Rule] = []

    def script(self, effects: Iterable[Effect | None]) -> None:
        """One entry for each request to come, whatever it asks for; None lets it through to the rules."""
        self._script.extend(effects)

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self) -> None:
        self._script.clear()
        self._rules.clear()

    @property
    def pending(self) -> int:
        """Scripted entries and rules that have not run out, rules for ever included."""
        return len(self._script) + len(self._rules)

    def take(self, call: Call) -> Effect | None:
        """The effect for this request, which is thereby used."""
        if self._script:
            scripted = self._script.popleft()
            if scripted is not None:
                return scripted
        for rule in self._rules:
            if not rule.matches(call):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            return rule.effect
        return None
