"""The audit log: every call that changes something, or is refused to, leaves an entry that says who asked for what."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from services.audit.recorder import changes_something
from services.platform.errors import from_rpc_error
from tests.contract.requests import METHODS, MODEL, VERSION, request_of, right
from tests.contract.suite import Suite

WRITES = {"Approve", "Batch", "Cancel", "Confirm", "Create", "Delete", "Derive", "Finalize", "Import", "Promote"} | {
    "Resubmit",
    "Retry",
    "Revoke",
    "Roll",
    "Save",
    "Update",
}
CHANGING = [
    name for name, (_, path, _) in METHODS.items() if changes_something(path) and not path.startswith("/lathe.internal")
]


async def entries(suite: Suite, filter_: str, **more: Any) -> list[dict[str, Any]]:
    """Return the newest entries that a filter asks for."""
    request = {"filter": filter_, "page_size": 1000, **more}
    answer = await suite.call("ListAuditEntries", request_of("ListAuditEntries", request))
    assert "unreachable" not in answer
    return list(answer.get("audit_entries", []))


async def outcome(suite: Suite, method: str, request: dict[str, Any], user: str) -> str:
    try:
        await suite.call(method, request_of(method, request), user)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).code.name
    return "OK"


def test_each_method_is_known_to_change_something_or_to_read() -> None:
    for method in CHANGING:
        assert any(method.startswith(verb) for verb in WRITES), f"{method}: does it change anything? See _READS."
    assert len(CHANGING) > 80


async def test_every_method_that_changes_something_leaves_an_entry(suite: Suite) -> None:
    missing = {}
    for method in CHANGING:
        code = await outcome(suite, method, right(method, suite.made), f"audited-{method}")
        found = await entries(suite, f"user = audited-{method}")
        told = {entry["code"] for entry in found}
        # Of a batch, each resource that was refused has an entry.
        if code != "INVALID_ARGUMENT" and code not in told and not (told and method.startswith("Batch")):
            missing[method] = (code, told)
        assert all(entry["method"].endswith(f"/{method}") for entry in found)
    assert not missing


async def test_an_entry_says_who_did_what_to_what(suite: Suite) -> None:
    user, request_id = "eve", "0d9f2b0e-5d0f-4f0c-8f2e-2f1f0a7a9c11"
    model = {"display_name": "Audited", "description": "d" * 900, "labels": {"team": "a"}}
    made = await suite.call("CreateModel", request_of("CreateModel", {"model": model, "request_id": request_id}), user)
    change = {"model": {"name": made["name"], "description": "new"}, "update_mask": "description"}
    await suite.call("UpdateModel", request_of("UpdateModel", change), user)
    with pytest.raises(grpc.aio.AioRpcError):
        await suite.call("DeleteModel", request_of("DeleteModel", {"name": made["name"], "etag": '"x"'}), user)
    await suite.call("DeleteModel", request_of("DeleteModel", {"name": made["name"]}), user)
    deleted, refused, updated, created = await entries(suite, f'resource = "{made["name"]}"')
    assert created["method"] == "lathe.registry.v1.ModelService/CreateModel"
    assert (created["user"], created["code"], created["request_id"]) == (user, "OK", request_id)
    assert created["authentication"] == "AUTHENTICATION_OPEN"
    assert created["after"] == model
    assert "before" not in created
    assert (updated["before"], updated["after"]) == ({"description": "d" * 900}, {"description": "new"})
    assert (refused["code"], refused["reason"]) == ("ABORTED", "ERROR_REASON_ETAG_MISMATCH")
    assert deleted["before"]["description"] == "new"
    assert "after" not in deleted
    assert len(created["trace_id"]) == 32
    assert created["peer"].startswith(("ipv4:127.0.0.1", "ipv6:"))


async def test_a_task_leaves_entries_when_it_is_created_named_cancelled_and_deleted(suite: Suite) -> None:
    spec = {"model_version": VERSION, "template": "templates/fuzz", "seed": 4711}
    task = await suite.call("CreateConversionTask", request_of("CreateConversionTask", {"task": {"spec": spec}}), "tia")
    named = {"task": {"name": task["name"], "display_name": "Named"}, "update_mask": "displayName"}
    await suite.call("UpdateConversionTask", request_of("UpdateConversionTask", named), "tia")
    for verb in ("Cancel", "Delete"):
        await suite.call(f"{verb}ConversionTask", request_of(f"{verb}ConversionTask", {"name": task["name"]}), "tia")
    deleted, cancelled, updated, created = await entries(suite, f'resource = "{task["name"]}"')
    assert created["after"]["spec"]["template"] == "templates/fuzz"
    assert updated["after"] == {"display_name": "Named"}
    assert cancelled["before"]["status"]["state"] == "TASK_STATE_PENDING"
    assert cancelled["after"]["status"]["state"] == "TASK_STATE_CANCELLED"
    assert deleted["before"]["spec"]["template"] == "templates/fuzz"


async def test_nothing_is_told_of_what_was_only_tried_or_malformed(suite: Suite) -> None:
    spec = {"model_version": VERSION, "template": "templates/fuzz"}
    tried = {"task": {"spec": spec}, "validate_only": True}
    assert await outcome(suite, "CreateConversionTask", tried, "val") == "OK"
    assert await outcome(suite, "CreateModel", {"model": {"display_name": "\n"}}, "val") == "INVALID_ARGUMENT"
    assert await outcome(suite, "GetModel", {"name": "models/none"}, "val") == "NOT_FOUND"
    assert await entries(suite, "user = val") == []


async def test_each_refusal_of_a_batch_has_an_entry(suite: Suite) -> None:
    names = ["templates/nobody", "templates/nothing"]
    await suite.call("BatchDeleteTemplates", request_of("BatchDeleteTemplates", {"names": names}), "bea")
    found = await entries(suite, "user = bea")
    assert {(entry["resource"], entry["code"]) for entry in found} == {(name, "NOT_FOUND") for name in names}


async def test_what_is_large_is_named_and_left_out(suite: Suite) -> None:
    source = right("CreateArchitecture", suite.made)["architecture"] | {"class_name": "AuditedNet", "display_name": "L"}
    source["source"] = source["source"].replace("FuzzNet", "AuditedNet") + "# comment\n" * 1000
    del source["name"]
    await suite.call("CreateArchitecture", request_of("CreateArchitecture", {"architecture": source}), "lea")
    (entry,) = await entries(suite, "user = lea")
    assert entry["omitted_fields"] == ["source"]
    assert entry["after"]["class_name"] == "AuditedNet"


async def test_pages_of_all_services_follow_each_other(suite: Suite) -> None:
    spec = {"model_version": VERSION, "template": "templates/fuzz"}
    for number in range(4):
        for method, asked in (
            ("CreateModel", {"model": {"display_name": f"Paged {number}"}}),
            ("CreateConversionTask", {"task": {"spec": spec}}),
            ("DeleteTemplate", {"name": "templates/nobody"}),
        ):
            await outcome(suite, method, dict[str, Any](asked), "pat")
    whole = [entry["name"] for entry in await entries(suite, "user = pat")]
    assert len(whole) == 12
    paged: list[str] = []
    token = ""
    while True:
        request = {"filter": "user = pat", "page_size": 5, "page_token": token}
        answer = await suite.call("ListAuditEntries", request_of("ListAuditEntries", request))
        paged += [entry["name"] for entry in answer["audit_entries"]]
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert paged == whole
    wrong = {"filter": "user = eve", "page_token": "abc"}
    assert await outcome(suite, "ListAuditEntries", wrong, "pat") == "INVALID_ARGUMENT"
    assert await outcome(suite, "ListAuditEntries", {"filter": "colour = red"}, "pat") == "INVALID_ARGUMENT"


async def test_what_a_service_registers_for_a_user_is_told(suite: Suite) -> None:
    request = right("RegisterModelVersion", suite.made)
    made = await suite.call("RegisterModelVersion", request_of("RegisterModelVersion", request), "rea")
    (entry,) = await entries(suite, f'resource = "{made["name"]}"')
    assert entry["method"] == "lathe.internal.v1.RegistryService/RegisterModelVersion"
    assert entry["resource"].startswith(MODEL)
