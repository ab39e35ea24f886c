"""A server process of the control plane: started, asked until it is healthy, paused, ended."""

import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_DEADLINE = 60.0
STOP_DEADLINE = 3.0  # the API server waits for a minute while somebody watches; what it has is safe in etcd
POLL_INTERVAL = 0.05
LOG_TAIL_LINES = 20


class ControlPlaneError(Exception):
    """The control plane did not come up, or went away; the message ends with the tail of its log."""


@dataclass(slots=True)
class ServerProcess:
    """A server that logs to a file and ends with us."""

    command: Sequence[str]
    log: Path
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it (again); its log goes on where it was."""
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal must not end etcd before the API server.
            self._running = subprocess.Popen(  # noqa: S603 - a binary that find_assets found, no shell
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; ControlPlaneError when it does not run. After SIGSTOP, none of its threads runs."""
        if self._running is None:
            raise ControlPlaneError(f"{Path(self.command[0]).name} is not running, so it cannot get {number!r}.")
        self._running.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self._running.pid, os.WSTOPPED)

    def wait_until_healthy(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        """Ask this URL until it says yes; ControlPlaneError, with the log's tail, when it ends or takes too long."""
        deadline = time.monotonic() + START_DEADLINE
        with httpx.Client(verify=tls or True, timeout=1, trust_env=False) as client:
            while time.monotonic() < deadline:
                if self._running is None or self._running.poll() is not None:
                    raise ControlPlaneError(f"{Path(self.command[0]).name} ended at its start.\n{self.tail()}")
                with suppress(httpx.TransportError):  # refused, or too slow
                    if client.get(url).is_success:
                        return
                time.sleep(POLL_INTERVAL)
        raise ControlPlaneError(
            f"{Path(self.command[0]).name} was not ready after {START_DEADLINE:g} s.\n{self.tail()}"
        )

    def stop(self) -> None:
        """End it: SIGTERM, and after a while SIGKILL. Nothing happens when it does not run."""
        if self._running is None:
            return
        self._running.terminate()
        self._running.send_signal(signal.SIGCONT)  # one that is paused sees the SIGTERM only now
        try:
            self._running.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def tail(self) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def free_port() -> int:
    """A port that nobody listens on, below those that Linux gives to outgoing connections (32768 and up).

    From that range the port could be taken while the API server restarts, even by the very client that
    keeps knocking at it.
    """
    for port in random.sample(range(20_000, 32_000), k=100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ControlPlaneError("No free port among 100 tried between 20000 and 32000 on 127.0.0.1.")
