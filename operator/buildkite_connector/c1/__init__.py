"""C1 as this project speaks to it: a session with BatonService for each connector, and C1's REST API.

Start at `client` (the calls) and `rest` (those of the REST API), then `token`, `credentials` and `workload_identity`
(who we are), `hosts` (where calls may go), `channel` (what connectors share), `answer` (one HTTP request), `messages`,
`rest_payload` and `errors` (translation to `tasks` and `failure`).
"""

from buildkite_connector.c1.client import C1, C1Client, open_c1
from buildkite_connector.c1.credentials import ClientCredentials, parse_credentials
from buildkite_connector.c1.rest import RestClient
from buildkite_connector.c1.settings import C1Settings

__all__ = ["C1", "C1Client", "C1Settings", "ClientCredentials", "RestClient", "open_c1", "parse_credentials"]
