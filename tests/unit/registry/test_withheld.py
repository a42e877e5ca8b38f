"""What those who read a shared resource are not told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lathe.registry.v1.architecture_service_pb2 import CERTIFICATION_CERTIFIED, Architecture
from lathe.registry.v1.dataset_service_pb2 import ClassMapping, Dataset, Derivation
from lathe.registry.v1.model_service_pb2 import Lineage, ModelVersion, PackageInfo
from lathe.registry.v1.release_service_pb2 import Channel, PromotionRules, Release

from services.platform import access, identity
from services.platform.access import Access, Permit, Role
from services.platform.identity import Caller, Proof
from services.registry import kinds
from services.registry.releases.rows import read_into

OWN = "projects/vision"


@pytest.fixture(params=[OWN, "projects/sound"])
def project(request: pytest.FixtureRequest) -> Iterator[str]:
    """The only project of the caller."""
    access_of = Access({str(request.param): Role.VIEWER})
    user = identity._caller.set(Caller("ada", Proof.USER))
    permit = access._permit.set(Permit(access_of, Role.VIEWER))
    yield str(request.param)
    access._permit.reset(permit)
    identity._caller.reset(user)


def shown(kind: Any, message: Any) -> Any:
    return kind.read({"body": message.SerializeToString(), "project": OWN})


@pytest.mark.parametrize(
    ("kind", "whole", "rest"),
    [
        (
            kinds.VERSIONS,
            ModelVersion(
                lineage=Lineage(template="templates/a", task="conversionTasks/b", sources=["models/m/versions/1"]),
                package=PackageInfo(template="templates/a", device="nvidia-t4"),
            ),
            ModelVersion(lineage=Lineage(sources=["models/m/versions/1"]), package=PackageInfo(device="nvidia-t4")),
        ),
        (kinds.VERSIONS, ModelVersion(size_bytes=1), ModelVersion(size_bytes=1)),
        (
            kinds.ARCHITECTURES,
            Architecture(certification=CERTIFICATION_CERTIFIED, certified_by="conversionTasks/b", project=OWN),
            Architecture(certification=CERTIFICATION_CERTIFIED, project=OWN),
        ),
        (
            kinds.DATASETS,
            Dataset(derivation=Derivation(sources=["datasets/a"]), mapping=ClassMapping(template="x"), project=OWN),
            Dataset(derivation=Derivation(), mapping=ClassMapping(), project=OWN),
        ),
        (
            kinds.CHANNELS,
            Channel(rules=PromotionRules(dataset="datasets/a", require_parity=True)),
            Channel(rules=PromotionRules(require_parity=True)),
        ),
    ],
)
def test_names_are_told_to_the_members_of_the_project(project: str, kind: Any, whole: Any, rest: Any) -> None:
    assert shown(kind, whole) == (whole if project == OWN else rest)


def test_a_release_names_its_evaluation_to_the_members(project: str) -> None:
    release = Release(
        model_version="models/m/versions/1", evaluation_task="evaluationTasks/e", checks=["on datasets/a."]
    )
    row: Any = {"body": release.SerializeToString(), "project": OWN}
    found = Release()
    read_into(found, row)
    assert found == (release if project == OWN else Release(model_version="models/m/versions/1"))
