"""What a portal adds to the snapshot of `data/access-org.json`: rows of accounts, and those of API tokens.

`PYTHONPATH=tests python -m unit.c1z.portal_golden` writes it anew: every difference is one that C1 will see.
"""

import json

from buildkite_connector.model.directory import DEFAULT_KINDS, ResourceKind, SyncScope
from harness.organization import DATA, access, with_portal
from unit.c1z.access_golden import DEFAULT, Rows, changed_rows, rows_of_directory

GOLDEN = DATA / "portal-snapshot.json"
TOKENS = SyncScope(DEFAULT_KINDS | {ResourceKind.API_TOKEN})


def golden() -> dict[str, Rows]:
    plain, detailed, tokens = (
        rows_of_directory(each) for each in (access(DEFAULT), with_portal(access(DEFAULT)), with_portal(access(TOKENS)))
    )
    return {"accounts": changed_rows(plain, detailed), "api_token": changed_rows(detailed, tokens)}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
