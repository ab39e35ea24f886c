"""C1 as this project speaks to it: a session with BatonService for each connector.

Start at `client` (the calls), then `token` and `credentials` (who we are), `hosts` (where calls may go),
`channel` (what connectors share), `messages` and `errors` (translation to `tasks` and `failure`).
"""

from buildkite_connector.c1.client import C1, C1Client, open_c1
from buildkite_connector.c1.credentials import ClientCredentials, parse_credentials
from buildkite_connector.c1.settings import C1Settings

__all__ = ["C1", "C1Client", "C1Settings", "ClientCredentials", "open_c1", "parse_credentials"]
