"""The steps of a release and of the images in CI, run as the workflows have them, in a copy of the repository.

`helm` is Helm's own code; what needs a network, root or a daemon is a script.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import helm_python
import pytest

from harness.control_plane import find_kubectl
from harness.helm_chart import at, one, workload
from harness.yaml_text import all_parsed, parsed

ROOT = Path(__file__).parents[3]
VERSION = parsed((ROOT / "charts" / "buildkite-connector" / "Chart.yaml").read_text())["version"]
DIGEST = f"sha256:{'5e' * 32}"
IMAGE = f"ghcr.io/acme/buildkite-connector:v{VERSION}@{DIGEST}"
HELM = f"""#!{sys.executable}
import hashlib, pathlib, sys
import helm_python

match sys.argv[1:]:
    case ["template", chart]:
        with helm_python.Chart.load(chart) as loaded:
            print(*loaded.render({{}}, name="release-name", namespace="default").values(), sep="\\n")
    case ["package", chart]:
        print(helm_python.package(chart, destination="."))
    case ["push", archive, "oci://ghcr.io/acme/charts"]:
        print("Digest: sha256:" + hashlib.sha256(pathlib.Path(archive).read_bytes()).hexdigest())
    case _:
        sys.exit(f"not so in this workflow: {{sys.argv}}")
"""
TOOLS = {
    "helm": HELM,
    "make": "#!/bin/bash\n",
    # What root does: it installs tools, and builds the image.
    "sudo": """#!/bin/bash
        case "$*" in
          apt-get*) ;;
          ".venv/bin/python tools/image.py --platform amd64") mkdir build && touch build/image.tar ;;
          *) exit 1 ;;
        esac""",
    # As Ubuntu's, which is too old for Docker's daemon: it can only write a file.
    "skopeo": r"""#!/bin/bash
        [[ "$*" =~ ^copy\ oci-archive:build/image.tar\ docker-archive:([^:]+):(.+)$ ]] || exit 1
        [ -e build/image.tar ] && echo "${BASH_REMATCH[2]}" > "${BASH_REMATCH[1]}" """,
    # Its images are lines of a file.
    "docker": """#!/bin/bash
        case "$1 $2" in
          "load --input") cat "$3" >> "$HOME/images" ;;
          "build --tag") echo "$3" >> "$HOME/images" ;;
          "run --rm")
            grep --quiet --line-regexp "${*: -2:1}" "$HOME/images" || exit 1
            if [ "${*: -1}" = crd ]; then cat crds/buildkiteconnectors.yaml; fi ;;
          *) exit 1 ;;
        esac""",
}
SCRIPTS = {
    step["name"]: step["run"]
    for workflow in ("ci", "release")
    for job in parsed((ROOT / ".github" / "workflows" / f"{workflow}.yaml").read_text())["jobs"].values()
    for step in job["steps"]
    if "name" in step and "run" in step
}


@dataclass(frozen=True)
class Runner:
    """A job's machine: a copy of the repository, and what its steps output."""

    home: Path

    def run(self, step: str, tag: str = f"v{VERSION}") -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own workflow
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPTS[step]],  # noqa: S607 - as GitHub does
            cwd=self.home / "repository",
            env={
                "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "RUNNER_TEMP": str(self.home),
                "GITHUB_REF_NAME": tag,
                "GITHUB_REPOSITORY": "acme/buildkite-connector",
                "GITHUB_OUTPUT": str(self.home / "outputs"),
                "NAME": "ghcr.io/acme/buildkite-connector",
                "DIGEST": DIGEST,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.home / "outputs").read_text().splitlines())


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    for name in ("charts", "crds", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / "repository" / name)
    for name in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "repository")
    (tmp_path / "bin").mkdir()
    for name, script in TOOLS.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    if (kubectl := find_kubectl()) is not None:
        (tmp_path / "bin" / "kubectl").symlink_to(kubectl)
    return Runner(tmp_path)


def test_the_tag_must_be_the_version(runner: Runner) -> None:
    assert runner.run("The tag is the version of the package and of the chart").returncode == 0
    assert runner.run("The tag is the version of the package and of the chart", "v99.0.0").returncode != 0


@pytest.mark.parametrize(
    "step",
    [
        "Build the image as a release does, and run it without permissions",
        "Build it from the Dockerfile, and run it without permissions",
    ],
)
def test_docker_runs_the_image_that_was_built_and_sees_a_crd_that_differs(runner: Runner, step: str) -> None:
    done = runner.run(step)
    assert done.returncode == 0, done.stderr
    (runner.home / "bin" / "docker").write_text(TOOLS["docker"].replace("cat crds/", "sed 1d crds/"))
    shutil.rmtree(runner.home / "repository" / "build", ignore_errors=True)
    assert runner.run(step).returncode != 0


def test_the_packaged_chart_needs_no_value_and_names_the_image_by_digest(runner: Runner) -> None:
    done = runner.run("Package the chart with the image's digest, and push it")
    assert done.returncode == 0, done.stderr
    assert runner.outputs()["name"] == "ghcr.io/acme/charts/buildkite-connector"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", runner.outputs()["digest"])
    archive = runner.home / "repository" / f"buildkite-connector-{VERSION}.tgz"
    with helm_python.Chart.load_archive(archive.read_bytes()) as chart:
        texts = chart.render({}, name="bc")
        mirrored = chart.render({"global": {"imageRegistry": "mirror.example.com"}}, name="bc")
        described = chart.metadata
    manifests = [each for name, text in texts.items() if not name.endswith("NOTES.txt") for each in all_parsed(text)]
    assert at(workload(manifests), "spec/template/spec/containers/0/image") == IMAGE
    assert at(one(manifests, "Pod"), "spec/containers/0/image") == IMAGE
    assert f"mirror.example.com/acme/buildkite-connector:v{VERSION}@" in "".join(mirrored.values())
    assert described["home"] == described["sources"][0] == "https://github.com/acme/buildkite-connector"


@pytest.mark.skipif(find_kubectl() is None, reason="no kubectl on PATH")
def test_the_assets_install_the_image_by_digest_and_tell_what_is_new(runner: Runner) -> None:
    for step in ("Package the chart with the image's digest, and push it", "The assets of the release"):
        done = runner.run(step)
        assert done.returncode == 0, done.stderr
    assets = runner.home / "repository" / "assets"
    assert {each.name for each in assets.iterdir()} == {
        "install.yaml",
        "buildkiteconnectors.yaml",
        f"buildkite-connector-{VERSION}.tgz",
        "notes.md",
    }
    install = all_parsed((assets / "install.yaml").read_text())
    assert install[0]["kind"] == "CustomResourceDefinition"
    assert at(workload(install), "spec/template/spec/containers/0/image") == IMAGE
    assert {"Namespace", "ServiceAccount", "ClusterRole", "Role"} <= {each["kind"] for each in install}
    notes = (assets / "notes.md").read_text()
    assert notes.strip()
    assert not re.search(r"^## ", notes, re.M)
