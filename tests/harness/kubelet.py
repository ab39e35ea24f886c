"""In the place of controllers and kubelet, which no control plane of ours has: a Deployment's container as a process.

It gets the environment, the arguments, the service account and its projected tokens that the Deployment gives it, as
the API server has them.
Only what is elsewhere on this machine is replaced: the simulators, the API server, the port and the data directory.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubernetes.aio import watch as watching
from kubernetes.aio.client import ApiClient, ApiException, AppsV1Api, Configuration, CoreV1Api
from kubernetes.aio.config import load_kube_config

from harness.cluster import write_private
from harness.control_plane import ControlPlane
from harness.kubernetes_apis import RETRY_SECONDS, Manifest
from harness.rig import COMMAND, OperatorProcess, Rig

IMAGE = "buildkite-connector"
"""The last part of our images' repository; a Deployment of another image gets no process and never becomes ready."""
OPERATOR, SERVICE = "the operator is ready", "the service is ready"


def key(deployment: Manifest) -> str:
    return f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"


def is_ours(image: str) -> bool:
    return image.rpartition("/")[2].partition(":")[0] == IMAGE


@dataclass(frozen=True)
class ProjectedToken:
    """A file that the kubelet fills with a token of the service account, again and again."""

    file: Path
    namespace: str
    account: str
    audience: str
    seconds: int


@dataclass
class Kubelet:
    """`accounts`: the service accounts that processes acted as, as users. `tokens`: what `project` fills."""

    cluster: ControlPlane
    rig: Rig
    accounts: set[str] = field(default_factory=set)
    started: dict[str, OperatorProcess] = field(default_factory=dict)
    tokens: list[ProjectedToken] = field(default_factory=list)
    _templates: dict[str, Manifest] = field(default_factory=dict)

    async def serve(self, apps: AppsV1Api) -> None:
        """Follows every Deployment of the cluster, until it is cancelled."""
        async for event in _events(apps.list_deployment_for_all_namespaces):
            deployment = event["raw_object"]
            if event["type"] == "DELETED":
                await self._end(key(deployment))
            else:
                await self._follow(deployment)

    async def release(self, core: CoreV1Api) -> None:
        """Lets namespaces go that are deleted, as their controller would once they are empty."""
        async for event in _events(core.list_namespace):
            namespace = event["raw_object"]
            if event["type"] != "DELETED" and namespace["status"]["phase"] == "Terminating":
                namespace["spec"]["finalizers"] = []
                path = f"/api/v1/namespaces/{namespace['metadata']['name']}/finalize"
                await self._kubectl("replace", "--raw", path, "--filename", "-", input=json.dumps(namespace))

    async def _follow(self, deployment: Manifest) -> None:
        name, template = key(deployment), deployment["spec"]["template"]
        wanted = deployment["spec"]["replicas"] > 0 and is_ours(template["spec"]["containers"][0]["image"])
        if not wanted:
            await self._end(name)
        elif self._templates.get(name) != template:
            await self._end(name)
            self.started[name] = await self._start(deployment)
            self._templates[name] = template
        ready = deployment["spec"]["replicas"] if name in self.started else 0
        status = {f"{word}Replicas": ready for word in ("updated", "ready", "available")}
        status |= {"replicas": ready, "observedGeneration": deployment["metadata"]["generation"]}
        if {**deployment.get("status", {}), **status} != deployment.get("status", {}):
            metadata = deployment["metadata"]
            where = ("deployment", metadata["name"], "--namespace", metadata["namespace"])
            await self._kubectl("patch", *where, "--subresource=status", "--type=merge", f"--patch={_json(status)}")

    async def _start(self, deployment: Manifest) -> OperatorProcess:
        """The container, once it says that it works."""
        namespace, pod = deployment["metadata"]["namespace"], deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        given = await self._environment(container, namespace, f"{deployment['metadata']['name']}-0")
        here = self._here(namespace, deployment["metadata"]["name"])
        if "serviceAccountName" in pod:
            account = pod["serviceAccountName"]
            config = await asyncio.to_thread(self.cluster.service_account_kubeconfig, namespace, account)
            self.accounts.add(f"system:serviceaccount:{namespace}:{account}")
            here["KUBECONFIG"] = str(config)
            for name, path in (await self._projected(pod, container, namespace)).items():
                given = {key: re.sub(f"^{re.escape(name)}(?=/|$)", path, value) for key, value in given.items()}
        arguments = tuple(container.get("args", ()))
        process = OperatorProcess(
            {**given, **here},
            command=(COMMAND, *arguments),
            ready=OPERATOR if "operator" in arguments else SERVICE,
            inherits=False,
        )
        self.rig.operators.append(process)
        return await process.__aenter__()

    async def _projected(self, pod: Manifest, container: Manifest, namespace: str) -> dict[str, str]:
        """The folder on this machine for each path at which the container sees projected tokens; they are filled."""
        mounts = {each["name"]: each["mountPath"] for each in container.get("volumeMounts", ())}
        folders: dict[str, str] = {}
        for volume in pod.get("volumes", ()):
            sources = volume.get("projected", {}).get("sources", ())
            for source in (each["serviceAccountToken"] for each in sources if "serviceAccountToken" in each):
                folder = self.rig.directory / f"{namespace}.{volume['name']}"
                folder.mkdir(exist_ok=True)
                token = ProjectedToken(
                    folder / source["path"],
                    namespace,
                    pod["serviceAccountName"],
                    source["audience"],
                    source["expirationSeconds"],
                )
                self.tokens.append(token)
                await self.project(token)
                folders[mounts[volume["name"]]] = str(folder)
        return folders

    async def project(self, token: ProjectedToken, **changes: Any) -> str:
        """Write a new token, in place of one that will soon expire; `changes` make it a wrong one. Gives the token."""
        asked = replace(token, **changes)
        where = ("create", "token", asked.account, "--namespace", asked.namespace)
        issued = await self._kubectl(*where, f"--audience={asked.audience}", f"--duration={asked.seconds}s")
        self.rig.confided.add(issued.strip())
        beside = token.file.with_name(f"..{token.file.name}")
        write_private(beside, issued.strip())
        beside.replace(token.file)
        return issued.strip()

    def _here(self, namespace: str, name: str) -> dict[str, str]:
        """What is elsewhere on this machine than in a cluster."""
        directory = self.rig.directory / f"{namespace}.{name}"
        directory.mkdir(exist_ok=True)
        return {
            "BUILDKITE_API_URL": self.rig.buildkite.url,
            "SSL_CERT_FILE": str(self.rig.c1.ca_file),
            "BUILDKITE_CONNECTOR_C1_HOSTS": self.rig.c1.address,
            "BUILDKITE_CONNECTOR_HTTP_ADDRESS": "127.0.0.1:0",
            "BUILDKITE_CONNECTOR_DATA_DIR": str(directory),
            "TMPDIR": str(directory),
        }

    async def _environment(self, container: Manifest, namespace: str, pod: str) -> dict[str, str]:
        """The container's variables, as the kubelet resolves them."""
        fields = {"metadata.name": pod, "metadata.namespace": namespace, "metadata.uid": "uid-0", "spec.nodeName": "n"}
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            where = ("secret", source["secretRef"]["name"], "--namespace", namespace)
            template = "--output=go-template={{range $k, $v := .data}}{{$k}}={{$v | base64decode}}\n{{end}}"
            lines = (await self._kubectl("get", *where, template)).splitlines()
            found |= dict(line.split("=", 1) for line in lines)
        for variable in container.get("env", ()):
            value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
        return found

    async def _end(self, name: str) -> None:
        self._templates.pop(name, None)
        if process := self.started.pop(name, None):
            await process.__aexit__(None, None, None)

    async def _kubectl(self, *arguments: str, **options: Any) -> str:
        return (await asyncio.to_thread(self.cluster.kubectl, *arguments, **options)).stdout

    async def stop(self) -> None:
        for name in list(self.started):
            await self._end(name)


async def _events(listing: Callable[..., Any]) -> AsyncIterator[Any]:
    """A watch's events; it begins anew where the server is busy or its cache is behind."""
    while True:
        try:
            async with watching.Watch() as watch:  # type: ignore[no-untyped-call]  # the package's watch has no types
                async for event in watch.stream(listing, resource_version="0"):
                    yield event
        except ApiException as error:
            if error.status not in {410, 429, 503, 504}:
                raise
            await asyncio.sleep(RETRY_SECONDS)  # it tells nobody when it is ready again


def _json(status: Mapping[str, Any]) -> str:
    return json.dumps({"status": dict(status)})


@contextlib.asynccontextmanager
async def kubelet(cluster: ControlPlane, rig: Rig) -> AsyncIterator[Kubelet]:
    """Follows the cluster's Deployments for as long as the context lasts."""
    configuration = Configuration()
    await load_kube_config(  # type: ignore[no-untyped-call]  # the package's config has no types
        str(cluster.kubeconfig), client_configuration=configuration
    )
    made = Kubelet(cluster, rig)
    async with ApiClient(configuration) as client:
        following = [
            asyncio.create_task(made.serve(AppsV1Api(client))),
            asyncio.create_task(made.release(CoreV1Api(client))),
        ]
        try:
            yield made
            assert not any(task.done() for task in following), [task.exception() for task in following if task.done()]
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await made.stop()
