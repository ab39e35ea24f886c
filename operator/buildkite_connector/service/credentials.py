"""The connector's credentials from the process's settings, read again as the operator reads a Secret again.

Variables and flags of a process do not change, but the YAML file may be a mounted Secret, whose content does.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from buildkite_connector.model.spec import Credentials


@dataclass(slots=True)
class ProcessCredentials:
    """`settings` reads the credentials from all sources, and raises Failure for what is missing or cannot be read.

    `last`: those that were read last, at first those of the start.
    """

    settings: Callable[[], Credentials]
    last: Credentials

    async def read(self) -> Credentials:
        self.last = await asyncio.to_thread(self.settings)
        return self.last
