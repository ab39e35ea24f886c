"""What the operator's process does, told once and run on each Kubernetes API.

A test module brings the fixtures `kubernetes` and `shared_namespace`, loads `scenarios.fixtures` as a plugin and
imports the classes that it wants to run.
"""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module.stem}"
        for module in Path(__file__).parent.glob("*.py")
        if not module.stem.startswith(("__init__", "conftest", "test_"))
    )
)
