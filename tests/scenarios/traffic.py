"""How much is asked of Kubernetes and Buildkite, by many connectors and by one that has nothing to do."""

import asyncio
from itertools import batched
