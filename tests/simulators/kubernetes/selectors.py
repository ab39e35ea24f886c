"""Selectors of lists and watches: of labels as kubectl writes them, of fields as far as custom resources have them."""

import re
from collections.abc import Callable, Mapping

from simulators.kubernetes.fields import Manifest
from simulators.kubernetes.resources import ApiError

FIELD_SELECTORS = ("metadata.name", "metadata.namespace")

_TERM = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no_key>[\w./-]+)"
    r"|(?P<key>[\w./-]+)\s*(?:(?P<operator>==?|!=)\s*(?P<value>[\w.-]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[\w\s,.-]*)\))?)\s*(?:,|$)"
)

Selected = Callable[[Manifest], bool]


def selector(query: Mapping[str, str]) -> Selected:
    """What `fieldSelector` and `labelSelector` ask for; ApiError 400 for what the simulator does not understand."""
    wanted = dict(term.replace("==", "=").split("=", 1) for term in query.get("fieldSelector", "").split(",") if term)
    if unknown := set(wanted) - set(FIELD_SELECTORS):
        raise ApiError(400, "BadRequest", f"field label not supported: {', '.join(sorted(unknown))}")
    terms = _label_terms(query.get("labelSelector", ""))

    def selected(manifest: Manifest) -> bool:
        metadata = manifest["metadata"]
        labels = metadata.get("labels") or {}
        named = all(metadata.get(field.removeprefix("metadata.")) == value for field, value in wanted.items())
        return named and all(term(labels) for term in terms)

    return selected


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
