"""A site of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.platform.settings import Settings
from tests.integration.tasks.kit import OPTIONS, Site, open_site


@pytest.fixture
def task_settings(echo_database_url: str, fresh_nats_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=echo_database_url, nats_url=fresh_nats_url, data_dir=tmp_path)


@pytest.fixture
async def site(request: pytest.FixtureRequest, task_settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    """A site with `OPTIONS`, or with those of an indirect parameter."""
    async with open_site(task_settings, tmp_path, getattr(request, "param", OPTIONS)) as site:
        yield site
