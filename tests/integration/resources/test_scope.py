"""What members of projects see and change."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.model_service_pb2 import ModelVersion

from services.database.pool import Database
from services.platform import access, identity
from services.platform.access import Access, Permit, Role
from services.platform.errors import LatheError
from services.platform.identity import Caller, Proof
from services.resources.listing import ListQuery
from services.resources.scope import OfParent
from services.resources.store import ResourceStore
from tests.integration.resources.conftest import VERSIONS, page_of

Architectures = ResourceStore[Architecture]
Versions = ResourceStore[ModelVersion]
VISION, SOUND = "projects/vision", "projects/sound"


@contextmanager
def member(role: Role = Role.NONE, needed: Role = Role.EDITOR, project: str = VISION) -> Iterator[None]:
    """Run a block as a call of a user with a role in one project, of a method that takes a role."""
    roles = {project: role} if role else {}
    user, permit = identity._caller.set(Caller("ada", Proof.USER)), access._permit.set(Permit(Access(roles), needed))
    try:
        yield
    finally:
        identity._caller.reset(user)
        access._permit.reset(permit)


async def refused(call: Awaitable[object]) -> LatheError:
    with pytest.raises(LatheError) as caught:
        await call
    return caught.value


@pytest.fixture
async def vision(architectures: Architectures) -> Architecture:
    return await architectures.create(Architecture(class_name="Net", display_name="net", project=VISION))


@pytest.fixture
def versions(database: Database) -> Versions:
    return ResourceStore(database, replace(VERSIONS, scope=OfParent("architectures", "architecture")))


@pytest.fixture
async def version(versions: Versions, vision: Architecture) -> ModelVersion:
    return await versions.create(ModelVersion(display_name="one"), resource_id="1", parent=vision.name)


async def test_what_a_caller_may_not_see_does_not_exist(
    architectures: Architectures, versions: Versions, vision: Architecture, version: ModelVersion
) -> None:
    there_is_none = await refused(architectures.get("architectures/no"))
    with member(Role.ADMIN, project=SOUND):
        for call in (
            architectures.get(vision.name),
            architectures.modify(vision.name, lambda _: None),
            architectures.delete(vision.name),
        ):
            error = await refused(call)
            assert error.code is there_is_none.code
            assert error.message == there_is_none.message.replace("no'", "net'")
        assert (await refused(versions.get(version.name))).code is grpc.StatusCode.NOT_FOUND
        assert await architectures.find("uid", vision.uid) is None
        assert await architectures.get_many([vision.name]) == {}
        assert await page_of(architectures, ListQuery()) == ([], "")
        assert await page_of(architectures, ListQuery(search="net")) == ([], "")
        assert await page_of(versions, ListQuery(parent="architectures/-")) == ([], "")
        # A name that is taken tells nothing of what has it.
        taken = await refused(architectures.create(Architecture(class_name="Net", display_name="other", project=SOUND)))
        assert taken.code is grpc.StatusCode.ALREADY_EXISTS
        assert "architectures/net'" not in taken.message.replace(f"'{vision.name}-2'", "")


async def test_what_is_deleted_is_told_to_who_could_see_it(architectures: Architectures, vision: Architecture) -> None:
    def create(project: str = SOUND) -> Awaitable[Architecture]:
        return architectures.create(
            Architecture(class_name="New", display_name="new", project=project), resource_id="net"
        )

    with member(Role.ADMIN, project=SOUND):
        taken = await refused(create())
    await architectures.delete(vision.name)
    assert (await refused(create())).reason == "NAME_RETIRED"
    with member(Role.ADMIN, project=VISION):
        assert (await refused(create(VISION))).reason == "NAME_RETIRED"
    with member(Role.ADMIN, project=SOUND):
        gone = await refused(create())
    # As if it were there still.
    assert (gone.code, gone.reason, gone.message) == (taken.code, taken.reason, taken.message)
    assert gone.code is grpc.StatusCode.ALREADY_EXISTS


async def test_a_role_allows_what_takes_it(
    architectures: Architectures, versions: Versions, vision: Architecture, version: ModelVersion
) -> None:
    mask = FieldMask(paths=["display_name"])
    for role in (Role.VIEWER, Role.EDITOR, Role.RELEASER, Role.ADMIN):
        for needed in (Role.EDITOR, Role.RELEASER, Role.ADMIN):
            with member(role, needed):
                assert (await architectures.get(vision.name)).uid == vision.uid
                assert (await versions.get(version.name)).uid == version.uid
                assert len((await page_of(architectures, ListQuery()))[0]) == 1
                sent = Architecture(name=vision.name, display_name=f"{role} {needed}")
                change = architectures.update(sent, mask, ("display_name",))
                if role >= needed:
                    await change
                    continue
                error = await refused(change)
                assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
                assert needed.name in error.message
                assert f"{VISION}; yours is {role.name}" in error.message
                assert error.metadata == {"role": needed.name, "project": VISION}
                made = versions.create(ModelVersion(display_name="x"), resource_id="x", parent=vision.name)
                assert (await refused(made)).reason == "ROLE_REQUIRED"


async def test_a_creation_takes_a_role_in_the_project(architectures: Architectures) -> None:
    with member(Role.EDITOR):
        made = await architectures.create(Architecture(class_name="A", display_name="a", project=VISION))
        assert made.project == VISION
        nowhere = await refused(architectures.create(Architecture(class_name="B", display_name="b", project=SOUND)))
        assert (nowhere.code, nowhere.resource) == (grpc.StatusCode.NOT_FOUND, ("project", SOUND))
        default = await refused(architectures.create(Architecture(class_name="B", display_name="b")))
        assert default.resource == ("project", "projects/default")
        sharing = Architecture(class_name="B", display_name="b", project=VISION, shared_with=[SOUND])
        assert (await refused(architectures.create(sharing))).metadata["role"] == "ADMIN"
    assert (await architectures.create(Architecture(class_name="C", display_name="c"))).project == "projects/default"


async def test_what_is_shared_is_read_and_no_more(
    architectures: Architectures, versions: Versions, vision: Architecture, version: ModelVersion
) -> None:
    mask, fields = FieldMask(paths=["shared_with"]), ("shared_with", "display_name")
    with member(Role.EDITOR):
        sent = Architecture(name=vision.name, shared_with=[SOUND])
        assert (await refused(architectures.update(sent, mask, fields))).metadata["role"] == "ADMIN"
    with member(Role.ADMIN):
        await architectures.update(sent, mask, fields)
    with member(Role.ADMIN, project=SOUND):
        assert (await architectures.get(vision.name)).shared_with == [SOUND]
        assert (await versions.get(version.name)).uid == version.uid
        assert len((await page_of(versions, ListQuery(parent="architectures/-")))[0]) == 1
        denied = await refused(architectures.delete(vision.name))
        assert (denied.reason, denied.metadata["project"]) == ("ROLE_REQUIRED", VISION)
    with member():
        assert (await refused(architectures.get(vision.name))).code is grpc.StatusCode.NOT_FOUND
    await architectures.update(Architecture(name=vision.name, shared_with=["projects/-"]), mask, fields)
    with member():
        assert (await versions.get(version.name)).uid == version.uid
    await architectures.update(Architecture(name=vision.name), mask, fields)
    with member(Role.ADMIN, project=SOUND):
        assert (await refused(versions.get(version.name))).code is grpc.StatusCode.NOT_FOUND


async def test_what_was_stored_before_there_were_projects_is_in_the_default(
    architectures: Architectures, database: Database, vision: Architecture
) -> None:
    vision.ClearField("project")
    body = vision.SerializeToString()
    await database.execute(
        "UPDATE architectures SET body = $1, project = DEFAULT, readers = DEFAULT WHERE name = $2", body, vision.name
    )
    with member(Role.VIEWER, project="projects/default"):
        assert (await architectures.get(vision.name)).project == "projects/default"
        assert (await page_of(architectures, ListQuery()))[0][0].project == "projects/default"


async def test_while_the_roles_are_not_known_nothing_is_told(
    architectures: Architectures, vision: Architecture
) -> None:
    with member(Role.VIEWER):
        access.current_permit().access = None
        assert (await refused(architectures.get(vision.name))).code is grpc.StatusCode.UNAVAILABLE
