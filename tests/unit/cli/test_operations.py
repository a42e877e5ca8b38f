"""`lathe operations`: every kind of work that is no task, in one list."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from lathe.evaluator.v1.evaluation_service_pb2 import ListEvaluationComparisonsResponse
from lathe.optimizer.v1.optimization_service_pb2 import ListModelSavesResponse
from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_VERIFYING, ListUploadsResponse, Upload
from lathe.registry.v1.dataset_service_pb2 import DatasetExport, ListDatasetExportsResponse
from lathe.registry.v1.model_service_pb2 import ListModelVersionImportsResponse, ModelVersionImport
from lathe.type.v1.failure_pb2 import Failure
from lathe.type.v1.operation_pb2 import OPERATION_STATE_FAILED, OPERATION_STATE_RUNNING

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

IMPORT = ModelVersionImport(
    name="models/m/imports/i1",
    state=OPERATION_STATE_FAILED,
    create_time=Timestamp(seconds=20),
    failure=Failure(message="no.onnx is no model."),
)
EXPORT = DatasetExport(
    name="datasets/d/exports/e1", state=OPERATION_STATE_RUNNING, progress=0.25, create_time=Timestamp(seconds=30)
)
UPLOAD = Upload(
    name="uploads/u1",
    state=UPLOAD_STATE_VERIFYING,
    size_bytes=4,
    verified_bytes=3,
    owner="ann",
    create_time=Timestamp(seconds=10),
)


def lists(suite: Suite) -> None:
    suite.answers |= {
        "ListModelVersionImports": ListModelVersionImportsResponse(model_version_imports=[IMPORT]),
        "ListDatasetExports": ListDatasetExportsResponse(dataset_exports=[EXPORT]),
        "ListModelSaves": ListModelSavesResponse(),
        "ListEvaluationComparisons": ListEvaluationComparisonsResponse(),
        "ListUploads": ListUploadsResponse(uploads=[UPLOAD]),
    }


def test_every_kind_is_listed_the_newest_first(suite: Suite, lathe: Lathe) -> None:
    lists(suite)
    out = lathe("operations", "list", "--mine").out
    names = [EXPORT.name, IMPORT.name, UPLOAD.name]
    assert [out.index(name) for name in names] == sorted(out.index(name) for name in names)
    for text in ("25%", "75%", "VERIFYING", "FAILED", "no.onnx is no model."):
        assert text in out
    asked = [suite.asked[method][0] for method in suite.answers if method.startswith("List")]
    assert all(each.mine_only for each in asked)
    assert [each.parent for each in asked if hasattr(each, "parent")] == [
        "models/-",
        "datasets/-",
        "optimizationTasks/-",
    ]


def test_lists_of_a_state_or_a_kind(suite: Suite, lathe: Lathe) -> None:
    lists(suite)
    assert EXPORT.name in lathe("operations", "list", "--state", "RUNNING").out
    assert suite.asked["ListDatasetExports"][0].filter == 'state:("RUNNING")'
    assert "ListUploads" not in suite.asked  # their states are others
    assert UPLOAD.name in lathe("operations", "list", "--kind", "upload", "--state", "VERIFYING").out
    assert lathe("operations", "list", "--kind", "party").code == 2


def test_an_operation_is_shown_cancelled_and_deleted(suite: Suite, lathe: Lathe) -> None:
    suite.answers |= {
        "GetModelVersionImport": IMPORT,
        "CancelDatasetExport": EXPORT,
        "DeleteDatasetExport": Empty(),
        "CancelUpload": UPLOAD,
    }
    assert "no.onnx is no model." in lathe("operations", "get", IMPORT.name).out
    assert "RUNNING" in lathe("operations", "cancel", EXPORT.name).out
    assert lathe("operations", "cancel", UPLOAD.name).code == 0
    assert f"deleted {EXPORT.name}" in lathe("operations", "delete", EXPORT.name).err
    assert lathe("operations", "delete", UPLOAD.name).code == 2
    assert "no operation" in lathe("operations", "get", "models/m").err
