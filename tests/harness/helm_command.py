"""`helm` for the commands of a page, where it is not installed: its own code, behind the arguments that pages have."""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import helm_python
import yaml


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="helm")
    parser.add_argument("command", choices=["install", "upgrade", "rollback", "uninstall"])
    parser.add_argument("release")
    parser.add_argument("chart", nargs="?")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--create-namespace", action="store_true")
    parser.add_argument("--reuse-values", action="store_true")
    parser.add_argument("--reset-then-reuse-values", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--values", action="append", default=[])
    return parser.parse_args()


def values(files: list[str], settings: list[str], found: dict[str, Any]) -> dict[str, Any]:
    """`found`: what is there before the files."""
    for file in files:
        found |= yaml.safe_load(Path(file).read_text())
    for setting in settings:
        path, _, text = setting.partition("=")
        *above, last = path.split(".")
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[last] = text[1:-1].split(",") if text.startswith("{") else yaml.safe_load(text)
    return found


def main() -> None:
    asked = parsed()
    kubeconfig = Path(os.environ["KUBECONFIG"])
    if asked.create_namespace:
        known = ("kubectl", "get", "namespace", asked.namespace, "--ignore-not-found", "--output=name")
        if not subprocess.run(known, check=True, capture_output=True).stdout:  # noqa: S603 - words of a page
            subprocess.run(("kubectl", "create", "namespace", asked.namespace), check=True)  # noqa: S603, S607 - likewise
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=asked.namespace) as config:
        match asked.command:
            case "install":
                config.install(asked.chart, asked.release, values(asked.values, asked.set, {}))
            case "upgrade":
                # The library lacks the second flag, which takes the user's own values from the release.
                own = dict(config.get_values(asked.release)) if asked.reset_then_reuse_values else {}
                given = values(asked.values, asked.set, own)
                config.upgrade(asked.chart, asked.release, given, reuse_values=asked.reuse_values)
            case "rollback":
                config.rollback(asked.release)
            case "uninstall":
                config.uninstall(asked.release)
    print(f"{asked.command} of {asked.release}: done")


if __name__ == "__main__":
    main()
