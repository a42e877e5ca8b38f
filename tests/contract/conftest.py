"""The whole suite for tests of what all services have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion

from services.common.settings import Settings
from tests.contract.registry.dataset_desk import scenes
from tests.contract.suite import Suite, open_suite
from tests.contract.workplace import Workplace, open_workplace


@pytest.fixture(scope="session")
async def suite(shared_settings: Settings, new_database: Callable[[], str]) -> AsyncIterator[Suite]:
    async with open_suite(shared_settings.model_copy(update={"database_url": new_database()})) as opened:
        yield opened


@pytest.fixture(scope="session")
async def workplace(shared_settings: Settings, new_database: Callable[[], str]) -> AsyncIterator[Workplace]:
    async with open_workplace(shared_settings.model_copy(update={"database_url": new_database()})) as opened:
        yield opened


@pytest.fixture(scope="session")
async def digits(workplace: Workplace) -> Dataset:
    """Twelve tensors, of which the Identity network gets three wrong."""
    return await workplace.digits(wrong=3)


@pytest.fixture(scope="session")
async def images(workplace: Workplace) -> Dataset:
    """Six images with classes, boxes and the attribute `scene`."""
    return await workplace.desk.ready(scenes(first=80))


@pytest.fixture(scope="session")
async def package(workplace: Workplace) -> ModelVersion:
    """A package that a user uploaded."""
    return await workplace.package()
