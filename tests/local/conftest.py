from collections.abc import AsyncIterator

import pytest

from tests.support.local_stack import RunningStack, start_stack


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """One stack for all tests of this process, because starting it takes seconds."""
    async with start_stack(tmp_path_factory.mktemp("home")) as stack:
        await stack.ready()
        yield stack
