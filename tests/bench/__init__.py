"""The bench. `cases` says what is measured, `measurement` how, `promises` what must come out, `report` tells it.

`fleet` is the same for one operator with many connectors.
"""
