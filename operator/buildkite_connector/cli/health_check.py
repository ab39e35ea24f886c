"""`health-check`: asks the health server of the same pod, for exec probes that need no other tool."""

import http.client

_LONGEST = 64 * 1024


def ask_health(host: str, port: int, endpoint: str, timeout: float) -> tuple[bool, str]:
    """Whether the endpoint answered 200, and its body or why there is none. `timeout` in seconds."""
    host = host.removeprefix("[").removesuffix("]")
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=timeout)
    try:
        connection.request("GET", f"/{endpoint}")
        response = connection.getresponse()
        body = response.read(_LONGEST).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        shown = f"[{host}]" if ":" in host else host
        return False, f"http://{shown}:{port}/{endpoint} did not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return response.status == http.client.OK, body


def _reachable(bound: str) -> str:
    """An address that stands for all is asked on loopback."""
    return "127.0.0.1" if bound in {"", "0.0.0.0", "::"} else bound  # noqa: S104  (no server binds here)
