"""What the simulators do to sockets that asyncio does not offer."""

import asyncio
import socket
import struct

LOOPBACK = "127.0.0.1"


def bind_loopback(port: int) -> socket.socket:
    """A socket that holds a loopback port without listening: connections to it are refused.

    With SO_REUSEADDR a second one may bind the same port and listen, which is how a pause keeps it.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    return bound


def stop_listening(server: asyncio.Server) -> None:
    """Close the server in the next turn of the event loop, and accept no connection from now on.

    A connection that comes while `Server.close` is called is one that asyncio has accepted and not set up. Setting it
    up then fails, because the server is closed, and the connection stays open until Python collects the garbage.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    loop.call_soon(server.close)


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Ends a connection with RST rather than FIN."""
    if not isinstance(transport, asyncio.Transport) or transport.is_closing():
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
