"""How many examples a property is tried with.

`make test` tries a quarter of them; `make thorough`, which the gate runs too, tries all. EXAMPLES is another share.
"""

import os

SHARE = float(os.environ.get("EXAMPLES", "0.25"))


def examples(number: int) -> int:
    """The share of `number` that this run tries."""
    return max(1, round(number * SHARE))
