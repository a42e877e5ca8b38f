"""What all resources have in common, held against each of them: request ids, etags, masks, pages, search, owners."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from services.platform.errors import LatheError, from_rpc_error
from services.platform.interceptors import validation
from tests.contract.requests import A_TEMPLATE, AN_ARCHITECTURE, CLASS, METHODS, MODEL, VERSION, request_of
from tests.contract.suite import Suite


@dataclass(frozen=True)
class Resource:
    """How the methods of a resource are called: `CreateModel(model=…)`, `ListModels() → models`."""

    noun: str
    plural: str
    values: dict[str, Any]
    parent: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Field of the resource in requests: `model_version`."""
        return "".join("_" + c.lower() if c.isupper() else c for c in self.noun).lstrip("_")

    def create(self, display_name: str, **more: Any) -> dict[str, Any]:
        """Return a Create request for one of this name."""
        values = self.values | {"display_name": display_name}
        if self.noun == "Architecture":
            class_name = f"Net{uuid.uuid4().hex}"
            values |= {"class_name": class_name, "source": self.values["source"].replace(CLASS, class_name)}
        given_id = {"alias_id": f"a-{uuid.uuid4().hex}"} if self.noun == "Alias" else {}
        return {self.key: values, **self.parent, **given_id, **more}


# Whose Create takes `validate_only`.
CHECKABLE = {"ModelVersion", "Template", "Dataset"}
RESOURCES = [
    Resource("Model", "Models", {}),
    Resource("ModelVersion", "ModelVersions", {"format": "PTH"}, {"parent": MODEL}),
    Resource("Alias", "Aliases", {"model_version": VERSION}, {"parent": MODEL}),
    Resource("Architecture", "Architectures", AN_ARCHITECTURE),
    Resource("Template", "Templates", A_TEMPLATE),
    Resource("Channel", "Channels", {}, {"parent": MODEL}),
    Resource("Dataset", "Datasets", {}),
]


class Calls:
    """Calls of one resource's methods by the user `user`."""

    def __init__(self, suite: Suite, resource: Resource, user: str) -> None:
        self._suite = suite
        self.resource = resource
        self.user = user

    def request(self, display_name: str, **more: Any) -> dict[str, Any]:
        request = self.resource.create(display_name, **more)
        if self.resource.noun == "ModelVersion":
            request[self.resource.key] |= {"files": [self._suite.made["file"]]}
        if self.resource.noun == "Dataset":
            request[self.resource.key] |= {"files": [self._suite.made["images"]]}
        return request

    async def make(self, display_name: str, **more: Any) -> dict[str, Any]:
        return await self.call("Create", self.request(display_name, **more))

    async def settled(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return a resource that changes no more by itself."""
        return await self._suite.settled(made) if self.resource.noun == "Dataset" else made

    async def call(self, verb: str, request: dict[str, Any], *, plural: bool = False) -> dict[str, Any]:
        method = verb + (self.resource.plural if plural else self.resource.noun)
        return await self._suite.call(method, request_of(method, request), self.user)

    async def update(self, mask: str, **values: Any) -> dict[str, Any]:
        # JSON writes the paths of a mask in camel case.
        first, *rest = mask.split("_")
        return await self.call(
            "Update", {self.resource.key: values, "update_mask": first + "".join(word.title() for word in rest)}
        )

    async def page(self, **request: Any) -> tuple[list[str], str]:
        answer = await self.call("List", {**self.resource.parent, **request}, plural=True)
        plural = {"ModelVersions": "model_versions"}.get(self.resource.plural, self.resource.plural.lower())
        return [each["display_name"] for each in answer.get(plural, [])], answer.get("next_page_token", "")


@pytest.fixture(params=RESOURCES, ids=lambda resource: resource.noun)
def calls(suite: Suite, request: pytest.FixtureRequest) -> Calls:
    # A user of the test's own sees nothing of other tests with `mine_only`.
    return Calls(suite, request.param, user=f"user-{uuid.uuid4().hex[:12]}")


async def refused(call: Any) -> LatheError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def unique() -> str:
    return uuid.uuid4().hex[:12]


async def test_the_same_request_id_creates_once(calls: Calls) -> None:
    request_id, name = str(uuid.uuid4()), unique()
    request = calls.request(name, request_id=request_id)
    first = await calls.call("Create", request)
    # A dataset goes on by itself meanwhile.
    assert (await calls.call("Create", request))["uid"] == first["uid"]
    request[calls.resource.key]["description"] = "another"
    assert (await refused(calls.call("Create", request))).reason == "REQUEST_ID_REUSED"
    assert (await calls.page(mine_only=True))[0] == [name]
    # An id is its caller's own.
    calls.user = f"user-{unique()}"
    assert (await calls.make(unique(), request_id=request_id))["name"] != first["name"]


async def test_a_stale_etag_is_refused(calls: Calls) -> None:
    made = await calls.settled(await calls.make(unique()))
    changed = await calls.update("description", name=made["name"], etag=made["etag"], description="new")
    assert changed["etag"] != made["etag"]
    assert changed["update_time"] > made["update_time"]
    stale = await refused(calls.update("description", name=made["name"], etag=made["etag"], description="newer"))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    stale = await refused(calls.call("Delete", {"name": made["name"], "etag": made["etag"]}))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await calls.call("Delete", {"name": made["name"], "etag": changed["etag"]})
    assert (await refused(calls.call("Get", {"name": made["name"]}))).code is grpc.StatusCode.NOT_FOUND


async def test_masks_change_what_they_name(calls: Calls) -> None:
    made = await calls.make(unique())
    changed = await calls.update("labels", name=made["name"], labels={"a": "b"}, description="not asked for")
    assert changed["labels"] == {"a": "b"}
    assert changed.get("description", "") == made.get("description", "")
    assert "labels" not in await calls.update("labels", name=made["name"])
    for mask in ("", "no_such_field", "owner", "name", "etag", "labels.a"):
        wrong = await refused(calls.update(mask, name=made["name"]))
        assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
        assert wrong.fields[0][0] == "update_mask"
    wrong = await refused(calls.update("labels", name=made["name"], labels={"Not a key": "b"}))
    assert wrong.fields[0][0].startswith(f"{calls.resource.key}.labels")


async def test_what_a_stricter_rule_refuses_stays_readable_and_its_other_fields_changeable(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, key = f"{unique()}\nold", calls.resource.key
    request = calls.request(name)
    if "files" in request[key] and calls.resource.noun == "ModelVersion":
        request[key]["files"] = [request[key]["files"][0] | {"path": "-net.pth"}]
    assert "display_name" in (await refused(calls.call("Create", request))).message
    with monkeypatch.context() as before_the_rule:
        before_the_rule.setattr(validation, "check", lambda _: None)
        made = await calls.settled(await calls.call("Create", request))
    assert (await calls.call("Get", {"name": made["name"]}))["display_name"] == name
    assert (await calls.page(mine_only=True))[0] == [name]
    changed = await calls.update("labels", name=made["name"], labels={"a": "b"})
    assert (changed["labels"], changed["display_name"]) == ({"a": "b"}, name)
    wrong = await refused(calls.update("display_name", name=made["name"], display_name=name))
    assert wrong.fields[0][0] == f"{key}.display_name"
    better = name.replace("\n", " ")
    assert (await calls.update("display_name", name=made["name"], display_name=better))["display_name"] == better


async def test_pages_hold_everything_once(calls: Calls) -> None:
    names = [f"{number} {unique()}" for number in range(5)]
    for name in names:
        await calls.make(name)
    request = {"mine_only": True, "order_by": "display_name desc", "page_size": 2}
    seen, token = await calls.page(**request)
    first = token
    while token:
        more, token = await calls.page(**request, page_token=token)
        seen += more
    assert seen == sorted(names, reverse=True)
    assert (await calls.page(mine_only=True))[0] == names[::-1]
    for wrong, where in (
        ({"page_token": first}, "page_token"),
        ({"page_token": "invented"}, "page_token"),
        ({"page_size": -1}, "page_size"),
        ({"order_by": "secret"}, "order_by"),
    ):
        assert (await refused(calls.page(**wrong))).fields[0][0] == where
    assert len((await calls.page(page_size=2_000_000, mine_only=True))[0]) == 5


async def test_search_finds_by_name_with_slips(calls: Calls) -> None:
    word = "quokka" + uuid.uuid4().hex[:6].translate(str.maketrans("0123456789", "ghijklmnop"))
    await calls.make(f"The {word} Net")
    await calls.make(unique())
    await calls.make(f"🦘 東京 {word[::-1]} ++")
    for search in ("🦘", "東", "京 🦘", f"{word[::-1]} 🦘", "++"):
        found, _ = await calls.page(mine_only=True, search=search)
        assert found == [f"🦘 東京 {word[::-1]} ++"], search
    for search in (word, word.upper(), f"{word[:4]}-{word[4:]}", word[:3] + word[4:], f"net {word}"):
        found, _ = await calls.page(mine_only=True, search=search)
        assert found == [f"The {word} Net"], search
    assert (await calls.page(mine_only=True, search="wombatwombat"))[0] == []


async def test_lists_filter_by_owner_and_labels(calls: Calls) -> None:
    made = await calls.make(unique())
    await calls.update("labels", name=made["name"], labels={"team": calls.user})
    assert (await calls.page(filter=f"labels.team = {calls.user}"))[0] == [made["display_name"]]
    assert (await calls.page(filter=f"labels.team = {calls.user} AND labels.more = x"))[0] == []
    calls.user = f"user-{unique()}"
    assert (await calls.page(mine_only=True))[0] == []
    assert (await calls.page(filter=f"labels.team = {made['owner']}"))[0] == [made["display_name"]]


async def test_a_request_that_is_only_checked_creates_nothing(calls: Calls) -> None:
    if calls.resource.noun not in CHECKABLE:
        pytest.skip("takes no validate_only")
    request_id, name = str(uuid.uuid4()), unique()
    checked = await calls.call("Create", calls.request(name, request_id=request_id, validate_only=True))
    assert checked["display_name"] == name
    assert not {"uid", "create_time", "update_time", "etag"} & checked.keys()
    assert (await refused(calls.call("Get", {"name": checked["name"]}))).code is grpc.StatusCode.NOT_FOUND
    # Its request id and its name are still free.
    assert (await calls.make(name, request_id=request_id))["name"] == checked["name"]


async def test_a_name_never_means_something_else(calls: Calls) -> None:
    noun = calls.resource.noun
    if noun in {"Channel", "Alias"}:
        pytest.skip("stands for what it points to; releases and tasks hold the number of the version")
    made = await calls.settled(await calls.make(unique()))
    await calls.call("Delete", {"name": made["name"]})
    if noun == "ModelVersion":
        assert int((await calls.make(unique()))["name"].rpartition("/")[2]) > int(made["name"].rpartition("/")[2])
        return
    given = {f"{calls.resource.key}_id": made["name"].rpartition("/")[2]}
    error = await refused(calls.make(unique(), **given))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NAME_RETIRED")


async def test_what_is_gone_may_be_deleted_again(calls: Calls) -> None:
    made = await calls.settled(await calls.make(unique()))
    for _ in range(2):
        await calls.call("Delete", {"name": made["name"], "allow_missing": True})
    assert (await refused(calls.call("Delete", {"name": made["name"]}))).code is grpc.StatusCode.NOT_FOUND


async def test_many_are_deleted_whatever_becomes_of_the_others(calls: Calls) -> None:
    if f"BatchDelete{calls.resource.plural}" not in METHODS:
        pytest.skip("no batch of these is deleted")
    names = [(await calls.settled(await calls.make(unique())))["name"] for _ in range(2)]
    missing = f"{names[0].rpartition('/')[0]}/{10**9}"
    answer = await calls.call("BatchDelete", {"names": [*names, missing]}, plural=True)
    assert set(answer["deleted"]) == set(names)
    assert [(each["name"], each["reason"]) for each in answer["errors"]] == [(missing, "ERROR_REASON_NOT_FOUND")]
    again = await calls.call("BatchDelete", {"names": [*names, missing], "allow_missing": True}, plural=True)
    assert set(again["deleted"]) == {*names, missing}


def test_every_deletion_takes_what_is_gone_already() -> None:
    deletions = {name: method.input_type for name, (*_, method) in METHODS.items() if "Delete" in name}
    assert [name for name, request in deletions.items() if "allow_missing" not in request.fields_by_name] == []
