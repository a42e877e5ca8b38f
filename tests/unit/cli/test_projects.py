"""`lathe projects`, and the project of what other commands create and list."""

from __future__ import annotations

from pathlib import Path

import pytest
from lathe.registry.v1.architecture_service_pb2 import Architecture, ListArchitecturesResponse
from lathe.registry.v1.model_service_pb2 import Model
from lathe.registry.v1.project_service_pb2 import Project, ProjectMember
from lathe.template.v1.template_service_pb2 import ListTemplatesResponse
from lathe.type.v1.access_pb2 import ROLE_ADMIN, ROLE_EDITOR, ROLE_VIEWER

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

VISION = Project(
    name="projects/vision",
    etag='"1"',
    members=[ProjectMember(member="user:ada", role=ROLE_ADMIN), ProjectMember(member="user:*", role=ROLE_VIEWER)],
)


def members(project: Project) -> dict[str, int]:
    return {each.member: each.role for each in project.members}


def test_members_are_given_roles_and_lose_them(suite: Suite, lathe: Lathe) -> None:
    suite.answers |= {"CreateProject": VISION, "GetProject": VISION, "UpdateProject": VISION}
    assert lathe("projects", "create", "vision", "--member", "user:ada=admin", "--member", "group:a=b=EDITOR").code == 0
    (created,) = suite.asked["CreateProject"]
    assert (created.project_id, members(created.project)) == (
        "vision",
        {"user:ada": ROLE_ADMIN, "group:a=b": ROLE_EDITOR},
    )
    assert lathe("projects", "grant", "vision", "user:*", "EDITOR").code == 0
    assert lathe("projects", "revoke", "vision", "user:*").code == 0
    granted, revoked = suite.asked["UpdateProject"]
    assert members(granted.project) == {"user:ada": ROLE_ADMIN, "user:*": ROLE_EDITOR}
    assert members(revoked.project) == {"user:ada": ROLE_ADMIN}
    assert (granted.project.etag, list(granted.update_mask.paths)) == ('"1"', ["members"])
    for wrong in (
        ("grant", "vision", "ada", "EDITOR"),
        ("grant", "vision", "user:ada", "OWNER"),
        ("revoke", "vision", "user:x"),
    ):
        assert lathe("projects", *wrong).code == 2


def test_a_resource_is_shared_and_no_longer(suite: Suite, lathe: Lathe) -> None:
    suite.answers |= {
        "GetModel": Model(name="models/net", etag='"1"', shared_with=["projects/a"]),
        "UpdateModel": Model(),
    }
    assert lathe("projects", "share", "models/net", "sound").code == 0
    assert lathe("projects", "unshare", "models/net", "a").code == 0
    shared, unshared = suite.asked["UpdateModel"]
    assert list(shared.model.shared_with) == ["projects/a", "projects/sound"]
    assert list(unshared.model.shared_with) == []
    assert lathe("projects", "share", "models/net/versions/1", "sound").code == 2


def test_what_is_created_and_listed_is_of_the_project(
    suite: Suite, lathe: Lathe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.answers |= {
        "CreateModel": Model(),
        "ListArchitectures": ListArchitecturesResponse(architectures=[Architecture()]),
        "ListTemplates": ListTemplatesResponse(),
    }
    assert lathe("--project", "vision", "models", "create", "Net").code == 0
    monkeypatch.setenv("LATHE_PROJECT", "projects/vision")
    assert lathe("architectures", "list", "--filter", "owner = ada OR owner = bob").code == 0
    assert lathe("templates", "list").code == 0
    assert suite.asked["CreateModel"][0].model.project == "projects/vision"
    only = 'project = "projects/vision"'
    assert suite.asked["ListArchitectures"][0].filter == f"(owner = ada OR owner = bob) AND {only}"
    assert suite.asked["ListTemplates"][0].filter == f"({only} OR built_in = true)"
