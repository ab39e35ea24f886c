"""Selectors of labels in lists and watches, as kubectl writes them."""

import re
from collections.abc import Callable, Mapping

from simulators.kubernetes.fields import Manifest
from simulators.kubernetes.resources import ApiError

_TERM = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no_key>[\w./-]+)"
    r"|(?P<key>[\w./-]+)\s*(?:(?P<operator>==?|!=)\s*(?P<value>[\w.-]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[\w\s,.-]*)\))?)\s*(?:,|$)"
)

Selected = Callable[[Manifest], bool]


def selector(query: Mapping[str, str]) -> Selected:
    """What `labelSelector` asks for; ApiError 400 for what the simulator does not understand."""
    if "fieldSelector" in query:
        raise ApiError(400, "BadRequest", "the simulator knows no field selectors")
    terms = _label_terms(query.get("labelSelector", ""))
    return lambda manifest: all(term(manifest["metadata"].get("labels") or {}) for term in terms)


def _label_terms(text: str) -> list[Callable[[Mapping[str, str]], bool]]:
    terms, at = [], 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise ApiError(400, "BadRequest", f"unable to parse requirement: {text[at:]}")
        terms.append(_label_term(match))
        at = match.end()
    return terms


def _label_term(match: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    key, operator, value = match["key"], match["operator"] or match["set"], match["value"]
    if match["absent"]:
        return lambda labels: match["no_key"] not in labels
    if operator is None:
        return lambda labels: key in labels
    values = {value} if value is not None else {each.strip() for each in match["values"].split(",")}
    if operator in {"!=", "notin"}:
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values
