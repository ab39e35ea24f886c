"""No answer of a portal, whatever it is, costs the process more than the table's bounds."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from unit.hostile.measure import Child
from unit.hostile.portal_rows import ROWS
from unit.hostile.rows import Row

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def child() -> AsyncIterator[Child]:
    async with Child() as child:
        yield child


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_hostile_answer_is_bounded(row: Row, child: Child) -> None:
    assert await child.measure("unit.hostile.portal_rows", row) == []
