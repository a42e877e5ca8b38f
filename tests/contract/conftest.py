"""The whole suite for tests of what all services have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from services.common.settings import Settings
from tests.contract.suite import Suite, open_suite


@pytest.fixture(scope="session")
async def suite(shared_settings: Settings, new_database: Callable[[], str]) -> AsyncIterator[Suite]:
    async with open_suite(shared_settings.model_copy(update={"database_url": new_database()})) as opened:
        yield opened
