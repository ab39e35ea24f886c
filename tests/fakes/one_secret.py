"""A Kubernetes API that has one Secret, or refuses."""

import base64
from collections.abc import Mapping


class OneSecret:
    """`asked`: the namespace and name of each request. `error` is raised in place of an answer."""

    def __init__(self, values: Mapping[str, bytes], error: Exception | None = None) -> None:
        self._values = values
        self._error = error
        self.asked: list[tuple[str, str]] = []

    async def read_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        self.asked.append((namespace, name))
        if self._error is not None:
            raise self._error
        return {key: base64.b64encode(value).decode() for key, value in self._values.items()}
