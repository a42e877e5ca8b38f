"""The whole suite for tests of what all services have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion

from services.local.roster import SERVICES
from services.platform.settings import Settings
from services.process.startup import migrations_of
from tests.contract.registry.dataset_desk import scenes
from tests.contract.suite import Suite, open_suite
from tests.contract.workplace import Workplace, open_workplace


@pytest.fixture(scope="session")
def apart(
    shared_settings: Settings,
    new_database: Callable[..., str],
    new_nats_url: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Settings]:
    """A function that gives settings to services of their own: on one bus, two sets would take each other's tasks."""

    schemas = [each for entry in SERVICES for each in migrations_of(entry.name)]

    def make() -> Settings:
        places = {
            "database_url": new_database(*schemas),
            "nats_url": new_nats_url(),
            "data_dir": tmp_path_factory.mktemp("data"),
        }
        return shared_settings.model_copy(update=places)

    return make


@pytest.fixture(scope="session")
async def suite(apart: Callable[[], Settings]) -> AsyncIterator[Suite]:
    async with open_suite(apart()) as opened:
        yield opened


@pytest.fixture(scope="session")
async def workplace(apart: Callable[[], Settings]) -> AsyncIterator[Workplace]:
    async with open_workplace(apart()) as opened:
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
