"""The services with authentication: a caller for each role, and what a method says to each of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from lathe.type.v1.access_pb2 import ACCESS_AUTHENTICATED, ACCESS_OPERATOR, ACCESS_SERVICE, ACCESS_VIEWER
from pydantic import SecretStr

from services.platform.errors import LatheError, from_rpc_error
from services.platform.interceptors.access import declared
from services.platform.settings import Settings
from tests.contract.requests import DATASET, METHODS, TEMPLATE, VERSION, request_of, right
from tests.contract.suite import Suite, open_suite

ROLES = ("viewer", "editor", "releaser", "admin")
CALLERS = ("nobody", "stranger", *ROLES, "ann", "service")
"""Without a token; in another project; a member with each role; an administrator of the installation, who made what is
there; and one of Lathe's services."""
TOKENS = {caller: f"token-of-{caller}" for caller in CALLERS if caller != "nobody"}
_DEFAULT = "projects/default"


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
        yield suite


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
        found: dict[str, Any] = await suite.call(method, request_of(method, values), caller)
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
        "UpdateProject": {"project": {"name": _DEFAULT, "description": "d"}, "update_mask": "description"},
        "CancelUpload": {"name": made["upload"]},
        "RevokeApproval": {"name": made["approval"]},
        "BatchDeleteModelVersions": {"names": [VERSION]},
        "BatchDeleteDatasets": {"names": [DATASET]},
        "BatchDeleteTemplates": {"names": [TEMPLATE]},
    }
    return named.get(method, {})
