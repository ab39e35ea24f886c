"""`python -m simulators.c1`: the simulator in a process of its own, until SIGTERM or SIGINT.

Prints its `host:port` on one line when it is ready, and nothing else; `http` drives it.
"""

import argparse
import asyncio
import json
import signal
from pathlib import Path

from simulators.c1.policy import Policy
from simulators.c1.server import C1Simulator


def arguments() -> argparse.ArgumentParser:
    default = Policy()
    parser = argparse.ArgumentParser(prog="python -m simulators.c1", description="A simulated C1 on loopback.")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--ca-out", type=Path, help="where to write the CA's certificate (PEM), for SSL_CERT_FILE")
    parser.add_argument("--credentials-out", type=Path, help="where to write a client's ID and secret (JSON)")
    parser.add_argument("--keep-uploads", type=Path, help="a folder where received files stay")
    parser.add_argument("--next-poll", type=float, default=default.next_poll, help="seconds (default: %(default)s)")
    parser.add_argument(
        "--next-heartbeat", type=float, default=default.next_heartbeat, help="seconds (default: %(default)s)"
    )
    parser.add_argument("--long-poll", type=float, default=default.long_poll, help="seconds (default: %(default)s)")
    parser.add_argument("--sync-every", type=float, help="seconds between full syncs (default: only the first)")
    parser.add_argument(
        "--sync-on-hello", action=argparse.BooleanOptionalAction, default=True, help="a first Hello makes a sync due"
    )
    parser.add_argument("--retry-failed", action="store_true", help="a failed task comes again unless non-retryable")
    parser.add_argument("--requeue-lost", action="store_true", help="a task without heartbeats is handed out again")
    return parser


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    policy = Policy(
        next_poll=options.next_poll,
        next_heartbeat=options.next_heartbeat,
        long_poll=options.long_poll,
        sync_every=options.sync_every,
        sync_on_hello=options.sync_on_hello,
        retry_failed=options.retry_failed,
        requeue_lost=options.requeue_lost,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with C1Simulator(policy, port=options.port, keep_uploads=options.keep_uploads) as simulator:
        _write_out(options, simulator)
        print(simulator.address, flush=True)
        await stop.wait()


def _write_out(options: argparse.Namespace, simulator: C1Simulator) -> None:
    if options.ca_out:
        options.ca_out.write_bytes(simulator.ca_file.read_bytes())
    if options.credentials_out:
        client = simulator.register_client()
        options.credentials_out.touch(mode=0o600)
        options.credentials_out.write_text(
            json.dumps({"client_id": client.client_id, "client_secret": client.client_secret})
        )


def main() -> None:
    options = arguments().parse_args()
    if options.keep_uploads:
        options.keep_uploads.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options))
