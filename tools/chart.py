"""Makes what follows from the chart's values and templates; `--check` only tells whether it is current.

Of charts/buildkite-connector: the versions in Chart.yaml, values.schema.json, the table in README.md and the templates
of the defaults and of the custom resource definition. Of deploy/: the plain manifests, rendered from the chart.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import yaml

from chart_values import Value, read_values, to_defaults, to_schema, to_table

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "buildkite-connector"
DEPLOY = ROOT / "deploy"
NAME = "buildkite-connector"
"""Of the release and of its namespace, in the plain manifests."""
FOLDERS: dict[str, dict[str, Any]] = {
    "cluster": {"image": {"registry": "registry.example.com"}},
    "namespace": {"image": {"registry": "registry.example.com"}, "watchNamespaces": [NAME]},
}
"""The values of each folder of deploy/."""
NOT_THERE = {"crd.yaml", "NOTES.txt", "ready.yaml"}
"""Templates that deploy/ does without: crds/ has the CRD, and the others are for `helm` alone."""
HELMS_OWN = re.compile(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.M)
BEGIN, END = "<!-- values: made by `make chart` -->\n", "<!-- end of values -->\n"
HEADING = "# Rendered from charts/{chart} by `make chart`.\n"


def of_the_chart() -> Iterator[tuple[Path, str]]:
    """Each file of the chart that is made, with its content."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    described = (CHART / "Chart.yaml").read_text()
    yield CHART / "Chart.yaml", re.sub(r"^((?:v|appV)ersion:) .*", rf"\1 {version}", described, flags=re.M)

    values = read_values((CHART / "values.yaml").read_text())
    yield CHART / "values.schema.json", json.dumps(to_schema(values), indent=2, ensure_ascii=False) + "\n"
    head, rest = (CHART / "README.md").read_text().split(BEGIN)
    yield CHART / "README.md", f"{head}{BEGIN}\n{to_table(values)}\n{END}{rest.split(END)[1]}"
    yield CHART / "templates" / "_defaults.tpl", defaults_template(values)
    yield CHART / "templates" / "crd.yaml", crd_template((ROOT / "crds" / "buildkiteconnectors.yaml").read_text())


def defaults_template(values: tuple[Value, ...]) -> str:
    """The defaults once more, for an upgrade that brings the values of an older chart along in place of values.yaml.

    ValueError when one would be taken for a template.
    """
    defaults = yaml.safe_dump(to_defaults(values), sort_keys=False, width=120)
    if "{{" in defaults:
        raise ValueError("values.yaml: a default would be taken for a template")
    return f"""{{{{- /* Made by `make chart` from values.yaml. */}}}}
{{{{- define "buildkite-connector.defaults" -}}}}
{defaults}{{{{- end }}}}

{{{{/* Gives each value that is missing its default, as `helm upgrade --reuse-values` leaves out what is new.
Each template that reads a value begins with this. */}}}}
{{{{- define "buildkite-connector.values" -}}}}
{{{{- $_ := set . "Values" (mergeOverwrite (include "buildkite-connector.defaults" . | fromYaml) .Values) }}}}
{{{{- end }}}}
"""


def crd_template(definition: str) -> str:
    """The definition as a template: only with crds.enabled, with annotations, and with the release's labels.

    ValueError when it is not as expected.
    """
    _, body = definition.split("\n", 1)
    metadata = re.compile(r"^(metadata:\n  name: .*\n)  labels:\n(?:    .*\n)+", re.M)
    changed, count = metadata.subn(
        r"""\1  {{- if or .Values.crds.keep .Values.crds.annotations }}
  annotations:
    {{- if .Values.crds.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    {{- with .Values.crds.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  labels:
    {{- include "buildkite-connector.labels" . | nindent 4 }}
""",
        body,
    )
    if count != 1 or "{{" in definition:
        raise ValueError("crds/: the metadata has another form, or something would be taken for a template")
    return (
        "{{- /* Made by `make chart` from crds/buildkiteconnectors.yaml. */}}\n"
        '{{- include "buildkite-connector.values" . }}\n'
        f"{{{{- if .Values.crds.enabled }}}}\n{changed}{{{{- end }}}}\n"
    )


def of_deploy() -> Iterator[tuple[Path, str]]:
    """Each manifest of deploy/ that is rendered. The chart's own files must be current."""
    with helm_python.Chart.load(CHART) as chart:
        for folder, values in FOLDERS.items():
            for template, text in chart.render(values, name=NAME, namespace=NAME).items():
                manifest = HELMS_OWN.sub("", text).strip().removeprefix("---\n")
                if manifest and Path(template).name not in NOT_THERE:
                    path = DEPLOY / folder / Path(template).name
                    yield path, f"{HEADING.format(chart=CHART.name)}{manifest}\n"


def stale(files: Iterator[tuple[Path, str]], *, write: bool) -> list[str]:
    """The files that are not current, by their path; they are written when `write`."""
    found = []
    for path, content in files:
        if path.exists() and path.read_text() == content:
            continue
        found.append(str(path.relative_to(ROOT)))
        if write:
            path.write_text(content)
    return found


def main() -> None:
    write = "--check" not in sys.argv[1:]
    # What deploy/ renders depends on the chart's own files, so they come first.
    found = stale(of_the_chart(), write=write)
    if write or not found:
        found += stale(of_deploy(), write=write)
    if found and not write:
        sys.exit(f"not current: {', '.join(found)}; run `make chart`")


if __name__ == "__main__":
    main()
