"""Records as the Buildkite simulator serves them, in pages; tests may edit them while they are read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

Record = dict[str, Any]
"""One JSON object of a listing, exactly as it is served."""


LARGEST_PAGE = 100
"""The API's maximum for per_page."""


def encode(value: object) -> bytes:
    """JSON as the API sends it: UTF-8, no needless blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Listing:
    """Records in page order, found by the value of one key field; edits take effect on the next page read.

    Pages are kept as the bytes that go out, so that serving one costs a dictionary look-up.
    """

    def __init__(self, key: str, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self._key = key
        self._records: list[Record] = [dict(record) for record in records]
        self._pages: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> Sequence[Record]:
        """The records to look at; edit them through the methods."""
        return tuple(self._records)

    def page(self, number: int, size: int) -> bytes:
        """The JSON list of page `number` (from 1); an empty list beyond the last."""
        found = self._pages.get((number, size))
        if found is None:
            start = (number - 1) * size
            found = self._pages[number, size] = encode(self._records[start : start + size])
        return found

    def find(self, key: str) -> Record | None:
        """The first record of that key."""
        return next((record for record in self._records if record.get(self._key) == key), None)

    def requests(self, size: int) -> int:
        """How many requests show all of it: at least one, and one more where the only page is full, as no link says
        that nothing follows."""
        return max(1, self.pages(size)) + (len(self._records) == size)

    def pages(self, size: int) -> int:
        """How many pages of `size` there are; 0 when the listing is empty."""
        return ceil(len(self._records) / size)

    def insert(self, record: Mapping[str, Any], at: int | None = None) -> None:
        """Adds a record before index `at`, at the end by default. The same key may come twice."""
        self._records.insert(len(self._records) if at is None else at, dict(record))
        self._pages.clear()

    def remove(self, key: str) -> Record:
        """Takes the first record of that key out. Raises KeyError when there is none."""
        index = self._index(key)
        self._pages.clear()
        return self._records.pop(index)

    def move(self, key: str, to: int) -> None:
        """Puts a record at another index, as a roster does that is read while it changes."""
        self.insert(self.remove(key), to)

    def update(self, key: str, changes: Mapping[str, Any]) -> None:
        """Overwrites fields of the first record of that key."""
        self._records[self._index(key)].update(changes)
        self._pages.clear()

    def _index(self, key: str) -> int:
        for index, record in enumerate(self._records):
            if record.get(self._key) == key:
                return index
        raise KeyError(key)
