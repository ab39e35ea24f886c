"""`python -m harness.fork_server SOCKET`: forks Python programs from a process that has loaded their libraries.

A client's connection is one program. It sends two descriptors (the program's output and its errors), then a `Request`
as JSON, and ends its side. It is told the process's ID, and the exit code when the program ends (each a `NUMBER`). The
libraries are loaded when the first client comes. The server ends with its standard input: with the tests that started
it, however they end.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NUMBER = struct.Struct("!i")
LOADED = (
    *(f"buildkite_connector.cli.{each}" for each in ("app", "check", "run_operator", "service", "sync")),
    "simulators.buildkite.command",
    "simulators.c1.command",
)


@dataclass(frozen=True, slots=True)
class Request:
    """The program is `main` of this module; `words` with its name."""

    module: str
    words: Sequence[str]
    environment: dict[str, str]
    directory: str = field(default_factory=os.getcwd)


def main() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print(flush=True)
        program = _serve(listener)
    if program is not None:
        os._exit(_run(program))  # to take the interpreter apart costs 0.1 s


def _run(program: Callable[[], None]) -> int:
    """Gives the exit code."""
    code: object = 0
    try:
        program()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else 1


def _serve(listener: socket.socket) -> Callable[[], None] | None:
    """The program to run, in a forked process; None at the server's own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the tests end what they have started
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for each in (listener.fileno(), woken, 0):
            selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fd for key, _ in selector.select()]
            if woken in ready:
                os.read(woken, 4096)
                _tell_ends(running)
            if 0 in ready:
                return None
            if listener.fileno() not in ready:
                continue
            client, _ = listener.accept()
            _, descriptors, _, _ = socket.recv_fds(client, 1, 2)
            with client.makefile("rb") as sent:
                request = Request(**json.loads(sent.read()))
            for module in LOADED:
                importlib.import_module(module)
            gc.freeze()  # no program looks at these
            pid = os.fork()
            if pid == 0:
                break
            running[pid] = client
            for each in descriptors:
                os.close(each)
            _tell(client, pid)
    client.close()
    for other in running.values():
        other.close()
    for descriptor in (woken, waker):
        os.close(descriptor)
    return _prepared(request, descriptors)


def _tell_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as client:
            _tell(client, os.waitstatus_to_exitcode(status))


def _tell(client: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        client.sendall(NUMBER.pack(number))


def _prepared(request: Request, descriptors: Sequence[int]) -> Callable[[], None]:
    """Make this process as if it had just been started, and give what is to run."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - lines at once on a terminal, as at a start
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    tempfile.tempdir = None  # TMPDIR may be another
    sys.argv = list(request.words)
    program: Callable[[], None] = importlib.import_module(request.module).main
    return program


if __name__ == "__main__":
    main()
