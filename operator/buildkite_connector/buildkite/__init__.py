"""The Buildkite adapter: `open_buildkite` gives a source of clients, one for each connector and sync.

Start at `client` (the calls), then `http` (retries), `rate_limit` (when a request may go), `payload` and `errors` (what
came back). Only the names in `__all__` are for others to import.
"""

import sys

# httpx loads its own command line, and click, pygments and rich with it, wherever those are installed.
# An entry of None makes that import fail, which is the case httpx provides for: it goes on without.
_without_command_line = "httpx" not in sys.modules
if _without_command_line:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]

from buildkite_connector.buildkite.client import BuildkiteClient  # noqa: E402
from buildkite_connector.buildkite.memberships import MembershipClient  # noqa: E402
from buildkite_connector.buildkite.settings import BuildkiteSettings, Patience, Timeouts  # noqa: E402
from buildkite_connector.buildkite.source import Buildkite, open_buildkite  # noqa: E402

if _without_command_line:
    del sys.modules["httpx._main"]

__all__ = [
    "Buildkite",
    "BuildkiteClient",
    "BuildkiteSettings",
    "MembershipClient",
    "Patience",
    "Timeouts",
    "open_buildkite",
]
