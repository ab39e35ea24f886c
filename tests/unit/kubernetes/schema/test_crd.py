"""The CRD: the file in crds/ is what the code makes, and it is structural."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildkite_connector.kubernetes.schema.crd import definition, to_yaml

CRDS = Path(__file__).parents[4] / "crds"
VERSION = definition()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def walk(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, each in node.get("properties", {}).items():
        yield from walk(each, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


NODES = dict(walk(SCHEMA))


def test_the_file_in_crds_is_the_generated_one() -> None:
    found = (CRDS / "buildkiteconnectors.yaml").read_text()
    assert found == to_yaml(), "run `make crds`"


def test_the_yaml_reads_back_as_the_crd() -> None:
    assert yaml.safe_load(to_yaml()) == definition()


def test_the_yaml_has_no_anchors() -> None:
    assert "&id" not in to_yaml()


def test_every_field_has_a_type_and_a_description() -> None:
    fields = {path: node for path, node in NODES.items() if not path.endswith("[]")}
    assert [path for path, node in fields.items() if not {"type", "description"} <= node.keys()] == [".metadata"]


def test_no_keyword_is_left_that_a_structural_schema_may_not_have() -> None:
    foreign = {"$ref", "$defs", "title", "anyOf", "const", "additionalProperties", "uniqueItems"}
    assert not {key for node in NODES.values() for key in node} & foreign


def test_every_rule_says_a_sentence_that_names_its_field() -> None:
    for path, node in NODES.items():
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["message"].endswith("."), rule
            assert rule["message"].startswith((path.removeprefix(".") or "spec.", "metadata.name")), rule


def test_whatever_a_rule_reads_has_a_bound_so_that_its_cost_has_one() -> None:
    for path, node in NODES.items():
        if "x-kubernetes-validations" in node and node["type"] in {"string", "array"}:
            assert {"maxLength", "maxItems", "enum"} & node.keys(), path


@pytest.mark.parametrize("field", ["interval", "cron", "timeZone"])
def test_the_schedule_has_no_stored_default_that_a_change_of_mind_would_trip_over(field: str) -> None:
    assert "default" not in NODES[f".spec.schedule.{field}"]
    assert "default" not in NODES[".spec.schedule"]


def test_conditions_merge_by_type() -> None:
    conditions = NODES[".status.conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "type" in conditions["items"]["required"]


def test_nothing_in_the_status_can_be_refused_for_its_value() -> None:
    limits = {"enum", "pattern", "maxLength", "maxItems", "minimum", "maximum", "x-kubernetes-validations"}
    assert not [path for path, node in NODES.items() if path.startswith(".status") and limits & node.keys()]


def test_a_time_to_come_is_no_date_column_as_that_would_print_invalid() -> None:
    kinds = {each["name"]: each["type"] for each in VERSION["additionalPrinterColumns"]}
    assert (kinds["Last Sync"], kinds["Next Sync"]) == ("date", "string")
