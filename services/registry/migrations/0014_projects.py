"""Projects: where everything belongs, and who may do what there."""

from datetime import UTC, datetime

from lathe.registry.v1.project_service_pb2 import Project, ProjectMember
from lathe.type.v1.access_pb2 import ROLE_EDITOR
from uuid_utils.compat import uuid7

from services.database.migration import execute
from services.platform.changes import etag_of
from services.resources.table import project_columns, resource_table

revision = "0014"
down_revision = "0013"

_STATED = ("models", "architectures", "datasets")
_OF_PARENTS = ("model_versions", "model_version_imports", "aliases", "channels", "dataset_exports")


def upgrade() -> None:
    """Create the default project, with every user as an editor, and let everything that is there belong to it."""
    execute(
        *resource_table("projects"),
        *project_columns("projects"),
        # The members of a project as the project says: who asks for a caller's roles looks here.
        """
        CREATE TABLE project_members (
            member text COLLATE "C" NOT NULL,
            project text COLLATE "C" NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
            role smallint NOT NULL,
            PRIMARY KEY (member, project)
        )
        """,
        "CREATE INDEX ON project_members (project)",
        _default_project(),
        f"INSERT INTO project_members VALUES ('user:*', 'projects/default', {ROLE_EDITOR})",  # noqa: S608 - a number
        *(statement for table in (*_STATED, *_OF_PARENTS) for statement in project_columns(table)),
        "ALTER TABLE uploads ADD COLUMN project text COLLATE \"C\" NOT NULL DEFAULT 'projects/default'",
        *(_refers_to_project(table) for table in (*_STATED, "uploads")),
    )


def _default_project() -> str:
    uid, now = uuid7(), datetime.now(UTC)
    project = Project(
        name="projects/default",
        uid=str(uid),
        display_name="Default",
        description="What states no project is here. Every authenticated user is an editor until an administrator "
        "changes the members.",
        owner="lathe",
        etag=etag_of(uid, 1),
        members=[ProjectMember(member="user:*", role=ROLE_EDITOR)],
    )
    project.create_time.FromDatetime(now)
    project.update_time.FromDatetime(now)
    return f"""
        INSERT INTO projects (uid, name, parent, display_name, owner, labels, create_time, update_time, revision,
            search_text, body, detail, project, readers)
        VALUES ('{uid}', 'projects/default', '', 'Default', 'lathe', '{{}}', '{now}', '{now}', 1,
            'default', '\\x{project.SerializeToString().hex()}', '', 'projects/default', '{{projects/default}}')
    """  # noqa: S608 - nothing of it comes from a caller


def _refers_to_project(table: str) -> str:
    foreign_key = f"{table}_project_fkey FOREIGN KEY (project) REFERENCES projects (name)"
    return f"ALTER TABLE {table} ADD CONSTRAINT {foreign_key}"
