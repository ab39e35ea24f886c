"""A Kubernetes cluster as a user reaches it: a kubeconfig file and kubectl.

Everything here blocks: call it through `asyncio.to_thread` where an event loop must go on.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import yaml

STARTING = (
    "the server is currently unable to handle the request",
    "storage is (re)initializing",
    "the server could not find the requested resource",
    "no matches for kind",
    "conditions accessor error",  # of `kubectl wait`: the object is too new to have conditions
    "connection refused",
    "was refused - did you specify the right host or port?",
    "etcdserver: ",
    'namespaces "default" not found',
)
"""What an API server says, or kubectl of it, that has only just started. Nothing was done then."""
START_SECONDS = 30.0
RETRY_SECONDS = 0.2


class KubectlError(Exception):
    """kubectl refused; `stderr` is what it said, as a person would read it."""

    def __init__(self, args: Sequence[str], code: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(args)} exited with {code}: {stderr.strip()}")
        self.stderr = stderr


class Cluster:
    """An existing cluster, reached through a kubeconfig file; `with` gives kubectl a place for its cache."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._environment: Mapping[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._start(opening)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _start(self, opening: ExitStack) -> None:
        self.directory = Path(opening.enter_context(TemporaryDirectory(prefix="control-plane-")))
        self._environment = {"KUBECACHEDIR": str(self.directory / "kubectl-cache")}

    @property
    def kubectl_program(self) -> Path:
        """For what runs kubectl by itself."""
        return self._kubectl

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator and give its output, as text.

        `input` goes to its standard input (`apply -f -`). Raises KubectlError when kubectl exits with
        another code than 0, unless `check` is False, and TimeoutExpired after `timeout` seconds. With `check` what a
        server refuses because it has only just started is asked again.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            done = self._kubectl_once(args, input, timeout)
            if not check or done.returncode == 0:
                return done
            if time.monotonic() > deadline or not any(each in done.stderr for each in STARTING):
                raise KubectlError(args, done.returncode, done.stderr)
            time.sleep(RETRY_SECONDS)

    def _kubectl_once(
        self,
        args: Sequence[str],
        input: str | None,  # noqa: A002 - as `kubectl`
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the binary that find_assets found, no shell
            [self._kubectl, *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **self._environment, "KUBECONFIG": str(self.kubeconfig)},
        )

    def kubectl_json(self, *args: str, input: str | None = None) -> Any:  # noqa: A002 - as `kubectl`
        """The parsed output of `kubectl <args> -o json`."""
        return json.loads(self.kubectl(*args, "-o", "json", input=input).stdout)

    def define(self, definitions: str) -> None:
        """Apply custom resource definitions (YAML or JSON) and wait until the API server serves them."""
        self.kubectl("apply", "--filename", "-", input=definitions)
        self.until_established("--filename", "-", input=definitions)

    def until_established(self, *which: str, input: str | None = None) -> None:  # noqa: A002 - as `kubectl`
        """Wait until the API server serves the definitions: `crd` and a name, or `--filename`."""
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *which, input=input)
        # It is established before it is served: until then requests for its resources are answered by 404.
        found = self.kubectl_json("get", *(each for each in which if each != "--all"), input=input)
        for each in found.get("items", [found]):
            spec = each["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    self.kubectl("get", "--raw", f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}")

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """A plain HTTP address on loopback that leads to the API server as the administrator."""
        process = subprocess.Popen(  # noqa: S603 - as in `kubectl`
            [self._kubectl, "proxy", "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._environment, "KUBECONFIG": str(self.kubeconfig)},
        )
        with process:
            try:
                assert process.stdout is not None
                yield "http://" + process.stdout.readline().split()[-1]
            finally:
                process.terminate()

    def create_namespace(self) -> str:
        """A new, empty namespace."""
        name = f"test-{uuid4().hex[:12]}"
        self.kubectl("create", "namespace", name)
        return name

    def delete_namespace(self, name: str) -> None:
        """Start a namespace's deletion, after that of the custom resources in it.

        Without a namespace controller they would stay, in sight of whoever watches the whole cluster.
        """
        definitions = self.kubectl_json("get", "customresourcedefinitions")["items"]
        kinds = [crd["metadata"]["name"] for crd in definitions if crd["spec"]["scope"] == "Namespaced"]
        if kinds:
            self.kubectl("delete", ",".join(kinds), "--all", "--namespace", name, "--wait=false")
        self.kubectl("delete", "namespace", name, "--wait=false")

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig file that acts as this service account, which must exist; its token lives an hour."""
        token = self.kubectl("create", "token", name, "--namespace", namespace).stdout.strip()
        config = self.kubectl_json("config", "view", "--raw", "--minify", "--flatten")
        config["users"] = [{"name": name, "user": {"token": token}}]
        config["contexts"][0]["context"].update(user=name, namespace=namespace)
        path = self.directory / f"{namespace}.{name}.kubeconfig"
        write_private(path, yaml.safe_dump(config))
        return path


def write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
