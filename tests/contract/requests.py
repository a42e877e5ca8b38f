"""Every method of the services that run, and for each a request that is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2
from lathe.evaluator.v1 import evaluation_service_pb2
from lathe.internal.keda import externalscaler_pb2
from lathe.internal.v1 import audit_service_pb2 as internal_audit_service_pb2
from lathe.internal.v1 import reference_service_pb2, registry_service_pb2, resolution_service_pb2, usage_service_pb2
from lathe.optimizer.v1 import optimization_service_pb2, profile_service_pb2
from lathe.quantizer.v1 import quantization_service_pb2
from lathe.registry.v1 import (
    alias_service_pb2,
    architecture_service_pb2,
    artifact_service_pb2,
    audit_service_pb2,
    dataset_service_pb2,
    device_service_pb2,
    info_service_pb2,
    model_service_pb2,
    project_service_pb2,
    release_service_pb2,
    storage_service_pb2,
)
from lathe.template.v1 import template_service_pb2
from lathe.watch.v1 import watch_service_pb2

from services.platform.words import from_values
from tests.contract.registry.conftest import source_of

FILES = (
    ("registry", model_service_pb2),
    ("registry", alias_service_pb2),
    ("registry", architecture_service_pb2),
    ("registry", artifact_service_pb2),
    ("registry", audit_service_pb2),
    ("registry", internal_audit_service_pb2),
    ("registry", dataset_service_pb2),
    ("registry", device_service_pb2),
    ("registry", info_service_pb2),
    ("registry", project_service_pb2),
    ("registry", release_service_pb2),
    ("registry", registry_service_pb2),
    ("registry", watch_service_pb2),
    ("registry", storage_service_pb2),
    ("template", template_service_pb2),
    ("template", reference_service_pb2),
    ("template", resolution_service_pb2),
    ("converter", conversion_service_pb2),
    ("converter", externalscaler_pb2),
    ("converter", usage_service_pb2),
    ("quantizer", quantization_service_pb2),
    ("optimizer", optimization_service_pb2),
    ("optimizer", profile_service_pb2),
    ("evaluator", evaluation_service_pb2),
)
METHODS = {
    method.name: (process, f"/{service.full_name}/{method.name}", method)
    for process, module in FILES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
PROJECT = "projects/fuzz"
DATASET = "datasets/fuzz"
ALIAS = "models/fuzz/aliases/fuzz"
# Of a channel whose rules change nobody asks for a release: they may need an evaluator, and there is none here.
PACKAGE, CHANNEL, RULED_CHANNEL = "models/fuzz/versions/2", "models/fuzz/channels/fuzz", "models/fuzz/channels/ruled"
MODEL, VERSION, ARCHITECTURE, TEMPLATE = (
    "models/fuzz",
    "models/fuzz/versions/1",
    "architectures/fuzz",
    "templates/fuzz",
)
LIST = {
    "page_size": 2,
    "order_by": "create_time desc",
    "search": "fuzz",
    "mine_only": True,
    "filter": "labels.team = a",
}
CLASS = "FuzzNet"
POOL = {"name": "worker-cpu-x86-64", "scalerMetadata": {"device": "cpu-x86-64", "kinds": "conversion"}}
A_TEMPLATE = {
    "name": TEMPLATE,
    "display_name": "Fuzz",
    "repo": "r",
    "version": "1",
    "method": "classification",
    "error_threshold": 1e-5,
    "source_format": "PTH",
    "device": "cpu-x86-64",
    "runtime": "onnxruntime",
    "precision": "FP32",
    "taxonomies": [{"task": "digit", "classes": ["0", "1"]}],
    "args": {"top": {"si": 1}},
    "components": [
        {
            "name": "net",
            "inputs": [{"name": "x", "shape": [1, 3], "preprocessing": {"mean_values": [1], "input_color": "RGB"}}],
            "max_batch": 2,
            "architecture": ARCHITECTURE,
        }
    ],
    "execution": {"fuse_operators": True},
}
AN_ARCHITECTURE = {
    "name": ARCHITECTURE,
    "display_name": "Fuzz",
    "class_name": CLASS,
    "source": source_of(CLASS),
    "config": "num_classes: 3",
}
SPECS: dict[str, dict[str, Any]] = {
    "Conversion": {
        "model_version": VERSION,
        "template": TEMPLATE,
        "overrides": {"values": {"repo": "mine"}},
        "seed": 1,
    },
    "Quantization": {
        "model_version": VERSION,
        "template": TEMPLATE,
        "calibration_data": {"dataset": DATASET, "samples": 2, "preprocessing": [{"cvtRGB": True}]},
        "accuracy": {"dataset": DATASET, "max_degradation": 0.5},
        "excluded_nodes": ["fc"],
    },
    "Optimization": {
        "model_version": VERSION,
        "device": "cpu-x86-64",
        "template": TEMPLATE,
        "precision_goal": "INT8",
        "dataset": DATASET,
        "max_degradation": 0.5,
        "tensor_information": "x:float(1*3)",
        "preprocessing": [{"resize": {"height": 4, "width": 4}}],
    },
    "Profile": {
        "model_version": VERSION,
        "device": "cpu-x86-64",
        "runtimes": ["onnxruntime"],
        "batch_sizes": [1, 2],
        "template": TEMPLATE,
    },
    "Evaluation": {
        "model_version": PACKAGE,
        "dataset": DATASET,
        "method": "classification",
        "args": {"label_offset": {"si": 0}},
        "preprocessing": [{"resize": {"height": 4, "width": 4}}],
    },
}
"""What each kind of task is asked to do."""


def right(method: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request that a service would take, or take but for a name that is there already."""
    version = {
        "format": "PTH",
        "architecture": ARCHITECTURE,
        "files": [made["file"]],
        "lineage": {"sources": [VERSION]},
    }
    upload, sha = made["upload"], made["file"]["digest"]["sha256"]
    requests: dict[str, dict[str, Any]] = {
        "CreateModel": {"model": {"display_name": "Fuzz", "labels": {"team": "a"}}},
        "GetModel": {"name": MODEL},
        "ListModels": LIST,
        "UpdateModel": {"model": {"name": MODEL, "display_name": "Fuzz"}, "update_mask": "displayName"},
        "DeleteModel": {"name": MODEL, "etag": '"x"'},
        "CreateModelVersion": {"parent": MODEL, "model_version": version},
        "RegisterModelVersion": {"parent": MODEL, "model_version": version},
        "GetModelVersion": {"name": VERSION},
        "ListModelVersions": {"parent": MODEL, **LIST, "filter": "format = PTH"},
        "UpdateModelVersion": {"model_version": {"name": VERSION, "description": "d"}, "update_mask": "description"},
        "DeleteModelVersion": {"name": VERSION, "etag": '"x"'},
        "CreateAlias": {
            "parent": MODEL,
            "alias_id": "fuzz",
            "alias": {"model_version": VERSION, "labels": {"team": "a"}},
        },
        "GetInfo": {},
        "ListReferences": {},
        "ListProjectUsages": {"page_size": 2},
        "GetProjectUsage": {"project": PROJECT},
        "CountTasks": {"projects": [PROJECT]},
        "CreateGarbageCollection": {
            "garbage_collection": {"display_name": "Fuzz", "labels": {"team": "a"}, "dry_run": True}
        },
        "ListGarbageCollections": {**LIST, "filter": "state = RUNNING"},
        **{f"{verb}GarbageCollection": {"name": made["collection"]} for verb in ("Get", "Watch", "Cancel")},
        "DeleteGarbageCollection": {"name": made["collection"], "etag": '"x"'},
        "CreateProject": {"project": {"display_name": "Fuzz", "members": [{"member": "user:ann", "role": "ADMIN"}]}},
        "GetProject": {"name": PROJECT},
        "ListProjects": LIST,
        "UpdateProject": {"project": {"name": PROJECT, "description": "d"}, "update_mask": "description"},
        "DeleteProject": {"name": PROJECT, "etag": '"x"'},
        "ReadQuotas": {},
        "ReadReleaseEvidence": {"evaluation_tasks": ["evaluationTasks/fuzz"]},
        "ReadGrants": {"user": "ann", "groups": ["vision"]},
        "IsActive": POOL,
        "StreamIsActive": POOL,
        "GetMetricSpec": POOL,
        "GetMetrics": {"scaledObjectRef": POOL},
        "WhoAmI": {},
        "GetDevice": {"name": "devices/cpu-x86-64"},
        "ListDevices": {"page_size": 2, "filter": "vendor = generic"},
        "ListAuditEntries": {"page_size": 2, "filter": "user = ann"},
        "ReadAuditLog": {"limit": 2},
        "GetAlias": {"name": ALIAS},
        "ListAliases": {"parent": MODEL, **LIST},
        "UpdateAlias": {"alias": {"name": ALIAS, "model_version": PACKAGE}, "update_mask": "modelVersion"},
        "DeleteAlias": {"name": ALIAS, "etag": '"x"'},
        "BatchGetModelVersions": {"names": [VERSION], "view": "VIEW_FULL"},
        "BatchDeleteModelVersions": {"names": ["models/fuzz/versions/99"], "allow_missing": True},
        "DescribeModelVersion": {"name": VERSION},
        "DiffModelVersions": {"before": VERSION, "after": VERSION},
        "GetLineage": {"name": VERSION, "max_depth": 3},
        "HoldModelVersion": {"name": VERSION, "holder": "conversionTasks/x", "ttl": "1s"},
        "RenewHolds": {"holders": ["conversionTasks/x"], "ttl": "1s"},
        "UseArtifacts": {
            "project": "projects/default",
            "resource": "evaluationTasks/x",
            "digests": [made["file"]["digest"]],
        },
        "ReadTaskSource": {"name": VERSION, "output_model": MODEL, "described_formats": ["PTH"]},
        "UnholdModelVersion": {"name": VERSION, "holder": "conversionTasks/x"},
        "CreateArchitecture": {"architecture": AN_ARCHITECTURE},
        "GetArchitecture": {"name": ARCHITECTURE},
        "ListArchitectures": {**LIST, "filter": "certification = UNCERTIFIED"},
        "UpdateArchitecture": {"architecture": AN_ARCHITECTURE, "update_mask": "source,config"},
        "DeleteArchitecture": {"name": ARCHITECTURE, "etag": '"x"'},
        "CreateUpload": {"display_name": "f", "size_bytes": 3},
        "GetUpload": {"name": upload},
        "ListUploads": {"page_size": 2, "mine_only": True, "order_by": "size_bytes", "filter": "state = OPEN"},
        "FinalizeUpload": {"name": upload, "digest": {"sha256": sha, "size_bytes": 3}},
        "WatchUpload": {"name": upload},
        "CancelUpload": {"name": "uploads/7f3d7c1e-52a4-4a36-8d4e-0c6f1b0a9e11"},
        "GetArtifact": {"name": f"artifacts/{sha}"},
        "GetDownload": {"name": f"artifacts/{sha}", "file_name": "f"},
        "CreateDataset": {
            "dataset": {
                "display_name": "Fuzz",
                "files": [made["images"]],
                "mapping": {"entries": [{"task": "animal", "key": "class", "classes": ["cat", "dog"]}]},
            }
        },
        "ConfirmDatasetImport": {"name": DATASET},
        "DeriveDataset": {
            "dataset": {
                "display_name": "Fuzz",
                "derivation": {
                    "sources": [DATASET],
                    "steps": [
                        {"merge_classes": {"key": "animal", "classes": ["cat"], "into": "pet"}},
                        {"sample": {"count": 2, "seed": 1, "stratify_by": "animal"}},
                    ],
                },
            }
        },
        "WatchDataset": {"name": DATASET},
        "WatchTasks": {"kinds": ["conversion"], "filter": "device = x", "mine_only": True, "send_existing": True},
        "GetDataset": {"name": DATASET},
        "ListDatasets": {**LIST, "filter": "type = CLASSIFICATION AND state = READY"},
        "UpdateDataset": {"dataset": {"name": DATASET, "description": "d"}, "update_mask": "description"},
        "DeleteDataset": {"name": DATASET, "etag": '"x"'},
        "BatchDeleteDatasets": {"names": ["datasets/x"], "allow_missing": True},
        "ListDatasetItems": {"parent": DATASET, "page_size": 2, "filter": "classifications.animal = cat"},
        "PreviewDatasetItem": {"name": f"{DATASET}/items/0"},
        "CreateModelVersionImport": {
            "parent": MODEL,
            "model_version_import": {
                "display_name": "Fuzz",
                "labels": {"team": "a"},
                "model_version": {"format": "MODEL_FORMAT_PTH", "files": [made["file"]]},
            },
        },
        "ListModelVersionImports": {"parent": MODEL, **LIST},
        **{f"{verb}ModelVersionImport": {"name": made["import"]} for verb in ("Get", "Watch", "Cancel")},
        "DeleteModelVersionImport": {"name": made["import"], "etag": '"x"'},
        "CreateDatasetExport": {"parent": DATASET, "dataset_export": {"display_name": "Fuzz", "labels": {"team": "a"}}},
        "ListDatasetExports": {"parent": DATASET, **LIST},
        **{f"{verb}DatasetExport": {"name": made["export"]} for verb in ("Get", "Watch", "Cancel")},
        "DeleteDatasetExport": {"name": made["export"], "etag": '"x"'},
        "CancelDatasetImport": {"name": DATASET},
        "SelectDatasetItems": {"name": DATASET, "count": 2, "seed": 1},
        "HoldDataset": {"name": DATASET, "holder": "evaluationTasks/x", "ttl": "1s"},
        "UnholdDataset": {"name": DATASET, "holder": "evaluationTasks/x"},
        "CreateChannel": {"parent": MODEL, "channel": {"display_name": "Fuzz", "labels": {"team": "a"}}},
        "GetChannel": {"name": CHANNEL},
        "ListChannels": {"parent": MODEL, **LIST},
        "UpdateChannel": {
            "channel": {"name": RULED_CHANNEL, "rules": {"bounds": [{"metric": "top1", "min": 0.5}]}},
            "update_mask": "rules",
        },
        "DeleteChannel": {"name": RULED_CHANNEL, "etag": '"x"'},
        "PromoteModelVersion": {"name": CHANNEL, "model_version": PACKAGE, "note": "n"},
        "RollBack": {"name": CHANNEL, "release": f"{CHANNEL}/releases/1", "note": "n"},
        "ImportEvaluation": {
            "model_version": PACKAGE,
            "dataset": DATASET,
            "labels": {"team": "a"},
            "result": {"metrics": [{"name": "top1", "value": 0.5}]},
            "origin": {"source": "run 4711", "report": made["file"]},
        },
        "ApproveModelVersion": {"name": CHANNEL, "model_version": PACKAGE, "note": "n"},
        "RevokeApproval": {"name": f"{CHANNEL}/approvals/7f3d7c1e-52a4-4a36-8d4e-0c6f1b0a9e11"},
        "GetApproval": {"name": made["approval"]},
        "ListApprovals": {
            "parent": CHANNEL,
            "page_size": 2,
            "order_by": "owner",
            "filter": f"model_version = {PACKAGE}",
        },
        "GetRelease": {"name": f"{CHANNEL}/releases/1"},
        "ListReleases": {"parent": CHANNEL, "page_size": 2, "order_by": "number", "filter": "kind = PROMOTION"},
        "CheckCompatibility": {
            "model_version": PACKAGE,
            "machine": {"device": "cpu-x86-64", "runtime_version": "1.31.1", "cpu_flags": ["avx2"]},
        },
        "CreateTemplate": {"template": A_TEMPLATE},
        "GetTemplate": {"name": TEMPLATE},
        "ListTemplates": {**LIST, "filter": "device = cpu-x86-64 AND built_in = false"},
        "UpdateTemplate": {"template": A_TEMPLATE, "update_mask": "components,args,taxonomies"},
        "DeleteTemplate": {"name": TEMPLATE, "etag": '"x"'},
        "BatchDeleteTemplates": {"names": ["templates/x"], "allow_missing": True},
        "ResolveTemplate": {
            "name": TEMPLATE,
            "model_version": VERSION,
            "overrides": {"values": A_TEMPLATE, "paths": ["components.net.max_batch", "args"]},
        },
        "ResolveTaskTemplate": {"name": TEMPLATE, "overrides": {"values": {"repo": "mine"}}},
        "CreateEvaluationComparison": {
            "evaluation_comparison": {"tasks": [made["tasks"]["Evaluation"], "evaluationTasks/x"]}
        },
        **{
            f"{verb}EvaluationComparison": {"name": "evaluationComparisons/7f3d7c1e-52a4-4a36-8d4e-0c6f1b0a9e11"}
            for verb in ("Get", "Watch", "Cancel", "Delete")
        },
        "ListEvaluationComparisons": {
            "page_size": 2,
            "mine_only": True,
            "search": "x",
            "filter": "tasks:evaluationTasks/x",
        },
        "SaveModel": {"name": made["tasks"]["Optimization"], "model": MODEL},
        "ListModelSaves": {"parent": made["tasks"]["Optimization"], **LIST},
        **{
            f"{verb}ModelSave": {"name": f"{made['tasks']['Optimization']}/saves/x"}
            for verb in ("Get", "Watch", "Cancel", "Delete")
        },
    }
    for kind, spec in SPECS.items():
        requests |= _of_tasks(kind, spec, made["tasks"][kind]) | _of_groups(kind, spec, made["groups"][kind])
    return requests[method]


def _of_tasks(kind: str, spec: Mapping[str, Any], task: str) -> dict[str, dict[str, Any]]:
    """Return a right request for each verb of a kind of task."""
    noun = f"{kind}Task"
    edited = {"name": task, "display_name": "d", "labels": {"team": "a"}}
    return {
        f"Create{noun}": {"task": {"spec": spec, "labels": {"team": "a"}}},
        f"Get{noun}": {"name": task},
        f"List{noun}s": {**LIST, "filter": f"state = PENDING AND uses:{spec['model_version']}"},
        f"Update{noun}": {"task": edited, "update_mask": "displayName,labels"},
        f"Cancel{noun}": {"name": task},
        f"BatchGet{noun}s": {"names": [task], "view": "VIEW_FULL"},
        f"BatchCancel{noun}s": {"names": [f"{kind.lower()}Tasks/x"]},
        f"Retry{noun}": {"name": task},
        f"Resubmit{noun}": {"name": task, "spec": spec},
        f"Delete{noun}": {"name": task, "etag": '"x"'},
        f"BatchDelete{noun}s": {"names": [f"{kind.lower()}Tasks/x"]},
        f"Watch{noun}": {"name": task, "after_revision": 1},
        f"Stream{noun}Logs": {"name": task, "attempt": 1},
    }


def _of_groups(kind: str, spec: Mapping[str, Any], group: str) -> dict[str, dict[str, Any]]:
    """Return a right request for each method of the groups of a kind of task."""
    noun = f"{kind}TaskGroup"
    shared = {name: value for name, value in spec.items() if name != "model_version"}
    values = {
        "display_name": "Fuzz",
        "labels": {"team": "a"},
        "spec": shared,
        "model_versions": [spec["model_version"]],
    }
    if kind == "Optimization":  # the place of the task is taken
        shared["output_location"] = "fuzz/groups"
    return {
        f"Create{noun}": {"group": values},
        f"Get{noun}": {"name": group},
        f"List{noun}s": LIST,
        f"Watch{noun}": {"name": group},
        f"Cancel{noun}": {"name": group},
        f"Delete{noun}": {"name": group, "etag": '"x"'},
    }


def request_of(method: str, values: Mapping[str, Any]) -> Message:
    """Return the request of a method."""
    return from_values(dict(values), message_factory.GetMessageClass(METHODS[method][2].input_type)())
