"""How many examples a property is tried with, and how many rows or pairs of a wide table.

`make test` tries a share of them; `make thorough`, which the gate runs too, tries all. EXAMPLES is another share of the
examples.
"""

import os
from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet

SHARE = float(os.environ.get("EXAMPLES", "0.08"))


def examples(number: int) -> int:
    """The share of `number` that this run tries."""
    return max(1, round(number * SHARE))


def some(rows: Iterable[object], one_in: int) -> list[ParameterSet]:
    """Each row. `make test` tries the first and then one in so many."""
    return [_param(row, tried=not number % one_in) for number, row in enumerate(rows)]


def pairs(rows: Iterable[str], columns: Iterable[str], one_in: int) -> list[ParameterSet]:
    """Each row with each column. `make test` tries one in so many: some of each row and, where there are as many rows,
    of each column."""
    columns = list(columns)
    return [
        _param(row, column, tried=not (down + across) % one_in)
        for down, row in enumerate(rows)
        for across, column in enumerate(columns)
    ]


def _param(*values: object, tried: bool) -> ParameterSet:
    return pytest.param(*values, marks=[] if tried else [pytest.mark.thorough])
