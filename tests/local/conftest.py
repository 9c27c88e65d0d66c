import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.local_stack import RunningStack, start_stack

FIRST_RELEASE = Path(__file__).parent / "data" / "local-0004.zip"


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """One stack for all tests of this process, because starting it takes seconds.

    It starts with the data of the first release, so each test also uses an upgraded database.
    """
    home = tmp_path_factory.mktemp("home")
    with zipfile.ZipFile(FIRST_RELEASE) as archive:
        archive.extractall(home)
    async with start_stack(home) as stack:
        await stack.ready()
        yield stack
