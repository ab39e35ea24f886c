"""The settings of service mode as a JSON schema: what may stand in the YAML file, from the flags' one declaration."""

from typing import Any

from buildkite_connector.cli.flags import Flag, Kind
from buildkite_connector.cli.service_flags import FLAGS

_TYPES = {Kind.TEXT: "string", Kind.NUMBER: "integer", Kind.SWITCH: "boolean"}


def config_schema() -> dict[str, Any]:
    """Draft 2020-12. `x-env` is the variable, `x-hidden` set where `--help` is silent."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "buildkite-connector",
        "type": "object",
        "properties": {flag.name: _property(flag) for flag in FLAGS},
        "required": ["api-token"],
        "dependentRequired": {"client-id": ["client-secret"], "client-secret": ["client-id"]},
    }


def _property(flag: Flag) -> dict[str, Any]:
    item: dict[str, Any] = {"type": _TYPES.get(flag.kind, "string")}
    if flag.choices:
        item["enum"] = list(flag.choices)
    schema: dict[str, Any] = {"type": "array", "items": item} if flag.kind is Kind.LIST else item
    bounds = {"minimum": flag.least, "maximum": flag.most, "default": flag.default}
    schema |= {name: value for name, value in bounds.items() if value is not None}
    schema |= {"description": flag.help, "x-env": flag.variable}
    if flag.hidden:
        schema["x-hidden"] = True
    return schema
