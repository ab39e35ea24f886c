"""A Kubernetes API server that only starts is asked again; the demo ends with a sentence, whatever happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cluster
from harness.cluster import STARTING, Cluster, KubectlError

DEMO = Path(__file__).parents[2] / "demo"
FIRST_REFUSED = """#!/bin/sh
echo "$@" >> {calls}
if [ "$(wc -l < {calls})" -lt 3 ]; then
  echo '{says}' >&2
  exit 1
fi
echo done
"""


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Cluster]:
    """A cluster whose kubectl refuses the first two calls with these words."""
    monkeypatch.setattr(cluster, "RETRY_SECONDS", 0.0)

    def cluster_that(says: str) -> Cluster:
        kubectl = script(tmp_path / "kubectl", FIRST_REFUSED.format(calls=tmp_path / "calls", says=says))
        return Cluster(tmp_path / "kubeconfig", kubectl)

    return cluster_that


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o700)
    return path


@pytest.mark.parametrize("says", STARTING)
def test_what_a_starting_server_refuses_is_asked_again(says: str, refusing: Callable[[str], Cluster]) -> None:
    assert refusing(f"Error from server: {says}").kubectl("get", "bkc").stdout == "done\n"


def test_any_other_refusal_is_told_at_once(refusing: Callable[[str], Cluster], tmp_path: Path) -> None:
    with pytest.raises(KubectlError, match="admission webhook"):
        refusing("Error from server (Forbidden): admission webhook").kubectl("apply")
    assert (tmp_path / "calls").read_text() == "apply\n"


def demo(assets: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, DEMO],
        env={**os.environ, "KUBEBUILDER_ASSETS": str(assets), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_ends_with_a_sentence_when_the_control_plane_does_not_start(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        script(tmp_path / name, "#!/bin/sh\necho out of memory\nexit 1\n")
    with demo(tmp_path) as ended:
        assert ended.communicate(timeout=60)[1] == "\nThe demo failed: etcd ended at its start.\nout of memory\n"
    assert ended.returncode == 1


STARTING_ETCD = """
import os, re, signal, socket, sys
port = int(re.search(r"client-urls=http://127.0.0.1:([0-9]+)", " ".join(sys.argv))[1])
with socket.create_server(("127.0.0.1", port)) as listener:
    listener.accept()  # it is asked whether it is healthy
    with open({started!r}, "w") as started:
        started.write(str(os.getpid()))
    signal.pause()
"""


def test_ctrl_c_while_the_control_plane_starts_ends_the_demo_and_the_servers(tmp_path: Path) -> None:
    started, program = tmp_path / "started", tmp_path / "etcd.py"
    program.write_text(STARTING_ETCD.format(started=str(started)))
    for name in ("etcd", "kube-apiserver", "kubectl"):
        script(tmp_path / name, f"#!/bin/sh\nexec '{sys.executable}' '{program}' \"$@\"\n")
    os.mkfifo(started)
    with demo(tmp_path) as stopped:
        etcd = Path("/proc", started.read_text())
        for _ in range(2):
            stopped.send_signal(signal.SIGINT)
        assert stopped.communicate(timeout=60)[1] == "\nStopped; the servers are stopped too.\n"
    assert (stopped.returncode, etcd.exists()) == (1, False)


def test_ctrl_c_while_the_demo_imports_leaves_no_traceback(tmp_path: Path) -> None:
    with demo(tmp_path, PYTHONPROFILEIMPORTTIME="1") as stopped:
        assert stopped.stderr is not None
        assert any(line.endswith(" yaml\n") for line in stopped.stderr)
        stopped.send_signal(signal.SIGINT)
        shown = stopped.communicate(timeout=60)[1]
    assert shown.endswith("\nStopped; no server was started yet.\n")
    assert (stopped.returncode, "Traceback" in shown) == (1, False)
