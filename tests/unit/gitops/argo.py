"""Runs Argo CD's customizations as Argo CD does: Lua 5.1 with few libraries, `obj` as a table, a table returned."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from lupa import lua51

from buildkite_connector.kubernetes.schema import GROUP, KIND
from harness.yaml_text import parsed

CONFIG = Path(__file__).parents[3] / "examples" / "argocd" / "argocd-cm.yaml"
DATA = parsed(CONFIG.read_text())["data"]
HEALTH = DATA[f"resource.customizations.health.{GROUP}_{KIND}"]
ACTIONS = parsed(DATA[f"resource.customizations.actions.{GROUP}_{KIND}"])
DISCOVERY = ACTIONS["discovery.lua"]
DEFINITIONS = {each["name"]: each["action.lua"] for each in ACTIONS["definitions"]}
DATE_FLAGS = set("aAbBcdFHImMpPSxXyYzZw")
"""What Argo CD's os.date knows; another flag stays in the text as it is."""


def run(script: str, resource: dict[str, Any]) -> Any:
    """What the script returns for this object, as JSON would have it. lua51.LuaError when it fails."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(
        """
        package.preload["os"] = function() return safe end
        safe = {time = os.time, date = os.date}
        os, io, debug, string, math, coroutine, loadfile, dofile = nil, nil, nil, nil, nil, nil, nil, nil
        package.loaded = {}
        """
    )
    lua.globals()["obj"] = _to_lua(lua, resource)
    assert set(re.findall(r"%(\w)", script)) <= DATE_FLAGS
    return _from_lua(lua.execute(script))


def act(name: str, resource: dict[str, Any]) -> Any:
    """The object after an action; the one that was given is not changed."""
    return run(DEFINITIONS[name], deepcopy(resource))


def _to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _to_lua(lua, each) for key, each in value.items()})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, each) for each in value])
    return value


def _from_lua(value: Any) -> Any:
    """A table whose first key is 1 is a list, as it is for Argo CD."""
    if lua51.lua_type(value) != "table":
        return value
    items = {key: _from_lua(each) for key, each in value.items()}
    return list(items.values()) if 1 in items else items
