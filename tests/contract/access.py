"""The services with authentication: a caller for each role, and what a method says to each of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationComparison
from lathe.optimizer.v1.optimization_service_pb2 import ModelSave
from lathe.type.v1.access_pb2 import ACCESS_AUTHENTICATED, ACCESS_OPERATOR, ACCESS_SERVICE, ACCESS_VIEWER
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING
from pydantic import SecretStr

from services.database.pool import Database
from services.evaluator import comparisons
from services.optimizer import saver
from services.platform.errors import LatheError, from_rpc_error
from services.platform.interceptors.access import declared
from services.platform.settings import Settings
from services.resources.store import ResourceStore
from tests.contract.requests import DATASET, METHODS, TEMPLATE, VERSION, request_of, right
from tests.contract.suite import Suite, open_suite

ROLES = ("viewer", "editor", "releaser", "admin")
CALLERS = ("nobody", "stranger", *ROLES, "ann", "service")
"""Without a token; in another project; a member with each role; an administrator of the installation, who made what is
there; and one of Lathe's services."""
TOKENS = {caller: f"token-of-{caller}" for caller in CALLERS if caller != "nobody"}
_DEFAULT = "projects/default"
_BATCHES = ("BatchCancel", "BatchDelete")


@asynccontextmanager
async def open_guarded(settings: Settings, folder: Path) -> AsyncIterator[Suite]:
    """Start the services with authentication, and give each caller a role in the project of what is there."""
    file = folder / "tokens.json"
    file.write_text(json.dumps({token: user for user, token in TOKENS.items() if user != "service"}))
    given = {"auth_tokens_file": file, "service_token": SecretStr(TOKENS["service"]), "admins": "ann"}
    async with open_suite(settings.model_copy(update=given), TOKENS) as suite:
        members = [{"member": f"user:{role}", "role": f"ROLE_{role.upper()}"} for role in ROLES]
        change = {"project": {"name": _DEFAULT, "members": members}, "update_mask": "members"}
        await suite.call("UpdateProject", request_of("UpdateProject", change))
        others = {"project": {"display_name": "Others", "members": [{"member": "user:stranger", "role": "ADMIN"}]}}
        await suite.call("CreateProject", request_of("CreateProject", others))
        await _make_operations(settings, suite)
        yield suite


async def _make_operations(settings: Settings, suite: Suite) -> None:
    """Store a comparison and a save that go on: to make them takes tasks that have succeeded."""
    group = await suite.call(
        "GetEvaluationTaskGroup", request_of("GetEvaluationTaskGroup", {"name": suite.made["groups"]["Evaluation"]})
    )
    suite.made["another_evaluation"] = group["members"][0]["task"]
    database = await Database.connect(settings.database_url, "evaluator")
    try:
        comparison = EvaluationComparison(display_name="Fuzz", state=OPERATION_STATE_RUNNING, project=_DEFAULT)
        made = await ResourceStore(database, comparisons.KIND).create(comparison, resource_id=str(uuid.uuid4()))
        suite.made["comparison"] = made.name
    finally:
        await database.close()
    database = await Database.connect(settings.database_url, "optimizer")
    try:
        save = ModelSave(display_name="Fuzz", state=OPERATION_STATE_RUNNING)
        kept = await ResourceStore(database, saver.KIND).create(
            save, resource_id=str(uuid.uuid4()), parent=suite.made["tasks"]["Optimization"]
        )
        suite.made["save"] = kept.name
    finally:
        await database.close()


def allowed_callers(method: str) -> tuple[str, ...]:
    """Return who gets past the checks of a method, as its proto declares."""
    needed = declared(METHODS[method][1])
    if needed == ACCESS_SERVICE:
        return ("service",)
    if needed == ACCESS_OPERATOR:
        return ("ann", "service")
    if needed == ACCESS_AUTHENTICATED:
        return CALLERS[1:]
    return (*ROLES[needed - ACCESS_VIEWER :], "ann", "service")


async def answer(suite: Suite, method: str, caller: str) -> LatheError | dict[str, Any]:
    """Return what a method says to a caller; of a batch, what it says of the one that it names."""
    values = right(method, suite.made) | _existing(method, suite.made)
    if method.startswith("List"):  # all that there is for this caller
        values = {key: value for key, value in values.items() if key == "parent"}
    if method.startswith("BatchDelete"):  # what is there stays for the other tests
        there = caller not in allowed_callers(method)
        values = {"names": values["names"]} if there else {"names": ["x"], "allow_missing": True}
    if (method, caller) == ("RevokeApproval", "ann"):  # who gave it
        values = {"name": f"{values['name']}9", "allow_missing": True}
    try:
        # Every stream says something at once, or why not: a refusal that is late on a busy machine is one, too.
        found: dict[str, Any] = await suite.call(method, request_of(method, values), caller, patience=60)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    if found.get("errors") and caller not in allowed_callers(method):
        (told,) = found["errors"]
        return LatheError(grpc.StatusCode[told["code"]], told["reason"], told["message"])
    return found


def _existing(method: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what replaces names of nothing in a request, so that an answer NOT_FOUND hides something."""
    named: dict[str, dict[str, Any]] = {
        "GetProject": {"name": _DEFAULT},
        "GetProjectUsage": {"project": _DEFAULT},
        "UpdateProject": {"project": {"name": _DEFAULT, "description": "d"}, "update_mask": "description"},
        "CancelUpload": {"name": made["upload"]},
        "RevokeApproval": {"name": made["approval"]},
        "BatchDeleteModelVersions": {"names": [VERSION]},
        "BatchDeleteDatasets": {"names": [DATASET]},
        "BatchDeleteTemplates": {"names": [TEMPLATE]},
        "CreateEvaluationComparison": {
            "evaluation_comparison": {"tasks": [made["tasks"]["Evaluation"], made["another_evaluation"]]}
        },
        **{
            f"{verb}EvaluationComparison": {"name": made["comparison"]} | ({"etag": '"x"'} if verb == "Delete" else {})
            for verb in ("Get", "Watch", "Cancel", "Delete")
        },
        **{
            f"{verb}ModelSave": {"name": made["save"]} | ({"etag": '"x"'} if verb == "Delete" else {})
            for verb in ("Get", "Watch", "Cancel", "Delete")
        },
        **{f"{verb}{kind}Tasks": {"names": [task]} for kind, task in made["tasks"].items() for verb in _BATCHES},
    }
    return named.get(method, {})
