"""The tables of a task service. The migrations of a new service run these statements:

def upgrade() -> None:
    execute(*TASK_TABLES, *DELETED_REQUESTS, *TASK_USES, *TASK_FILTERS, *TASK_QUEUE, *TASK_GROUPS, *TASK_PROJECTS)
    execute(*TASK_COUNTS)
    execute(LEASES_TABLE, CHANGES_TABLE, *AUDIT_TABLE)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from services.resources.idempotency import REQUEST_IDS_BY_AGE, REQUEST_IDS_TABLE
from services.resources.table import resource_table

TASK_TABLES = (
    """
    CREATE TABLE tasks (
        uid uuid PRIMARY KEY,
        name text NOT NULL,
        display_name text NOT NULL,
        owner text NOT NULL,
        labels jsonb NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        -- Grows with every change; every writer names the revision that it read.
        revision bigint NOT NULL,
        search_text text NOT NULL,
        search_grams text[] COLLATE "C" NOT NULL GENERATED ALWAYS AS (lathe.grams(search_text)) STORED,
        device text NOT NULL,
        state smallint NOT NULL,
        request_id uuid,
        request_digest bytea,
        -- Sha256 over kind, device and work: equal for equal work.
        work_key bytea NOT NULL,
        -- Equal tasks follow this one while it is in flight.
        leads boolean NOT NULL,
        leader uuid,
        -- Work key and environment of the worker that did it: if set, the result may serve other tasks.
        action_key bytea,
        -- Messages sent to workers so far.
        dispatches integer NOT NULL,
        -- The kind holds what the task refers to.
        held boolean NOT NULL,
        -- TaskAssignment, as first sent.
        assignment bytea NOT NULL,
        -- The task message without, and only, its fields status, attempts, origin and result.
        body bytea NOT NULL,
        live bytea NOT NULL,
        -- The worker's outcome, once it reported success.
        outcome bytea
    ) WITH (fillfactor = 80)
    """,
    "CREATE UNIQUE INDEX tasks_request ON tasks (owner, request_id) WHERE request_id IS NOT NULL",
    "CREATE UNIQUE INDEX tasks_leading ON tasks (work_key) WHERE leads",
    "CREATE INDEX tasks_action ON tasks (action_key) WHERE action_key IS NOT NULL",
    "CREATE INDEX tasks_leader ON tasks (leader) WHERE leader IS NOT NULL",
    "CREATE INDEX tasks_open ON tasks (uid) WHERE state IN (1, 2, 5) OR (held AND state IN (3, 4, 6))",
    "CREATE INDEX tasks_recent ON tasks (create_time, uid)",
    "CREATE INDEX tasks_owner ON tasks (owner, create_time, uid)",
    "CREATE INDEX tasks_search ON tasks USING gin (search_grams)",
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task uuid NOT NULL,
        subject text NOT NULL,
        msg_id text NOT NULL,
        -- NULL stands for the task's assignment.
        payload bytea,
        create_time timestamptz NOT NULL DEFAULT now()
    )
    """,
)
"""Statements that create the tables of one task service, in order."""

DELETED_REQUESTS = (REQUEST_IDS_TABLE,)
"""Statements for what is remembered of deleted tasks: their requests, so that a repeat makes no second task."""

TASK_USES = (
    # Names of the resources that the specification names.
    """ALTER TABLE tasks ADD COLUMN uses text[] COLLATE "C" NOT NULL DEFAULT '{}'""",
    "CREATE INDEX tasks_uses ON tasks USING gin (uses)",
)
"""Statements for finding tasks by what they use."""

TASK_FILTERS = (
    # In the default order of lists; `owner` and `uses` have theirs.
    "CREATE INDEX tasks_state ON tasks (state, create_time, uid)",
    "CREATE INDEX tasks_device ON tasks (device, create_time, uid)",
    "CREATE INDEX tasks_labels ON tasks USING gin (labels jsonb_path_ops)",
    REQUEST_IDS_BY_AGE,
)
"""Statements for the indexes of the filters of lists, and of what is forgotten by age."""

TASK_QUEUE = (
    "ALTER TABLE tasks ADD COLUMN priority smallint NOT NULL DEFAULT 0",
    """
    CREATE TABLE queue (
        task uuid PRIMARY KEY,
        id bigint GENERATED ALWAYS AS IDENTITY,
        device text NOT NULL,
        owner text NOT NULL,
        -- 0 for the highest priority.
        rank smallint NOT NULL,
        msg_id text NOT NULL,
        -- NULL stands for the task's assignment.
        payload bytea,
        -- When the message went to the workers; NULL as long as it waits for its turn.
        sent timestamptz
    )
    """,
    "CREATE INDEX queue_waiting ON queue (device, rank, owner, id) WHERE sent IS NULL",
    "CREATE INDEX queue_sent ON queue (device) WHERE sent IS NOT NULL",
    "CREATE INDEX tasks_running ON tasks (device) WHERE state IN (2, 5)",
)
"""Statements for the tasks that wait for a worker, and their priorities."""

TASK_GROUPS = tuple(resource_table("task_groups"))
"""Statements for groups of tasks."""

TASK_PROJECTS = (
    # What was there before there were projects is in the default one. So is what an older release, which does not know
    # the column, writes while a newer one runs beside it.
    """ALTER TABLE tasks ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT 'projects/default'""",
    # In the default order of lists.
    "CREATE INDEX tasks_project ON tasks (project, create_time, uid)",
)
"""Statements for the project of each task."""

TASK_COUNTS = ("CREATE INDEX tasks_project_state ON tasks (project, state)",)
"""Statements for counting the tasks of a project by state, as its quotas do when one is created."""

_BATCH = 1000


def record_uses(task_type: type[Message], uses: Callable[[Any], Sequence[str]]) -> None:
    """Fill in `uses` of the tasks that a database already has, inside the migration that adds the column.

    Args:
        task_type: The task resource.
        uses: Of a specification, as TaskKind has it.
    """
    from alembic import op

    connection = op.get_bind()
    page = "SELECT uid, body FROM tasks WHERE uid > $1 ORDER BY uid LIMIT $2"
    after = "00000000-0000-0000-0000-000000000000"
    while rows := connection.exec_driver_sql(page, (after, _BATCH)).all():
        after = rows[-1][0]
        values = []
        for uid, body in rows:
            task: Any = task_type.FromString(body)
            values.append((uid, list(uses(task.spec))))
        connection.exec_driver_sql("UPDATE tasks SET uses = $2 WHERE uid = $1", values)
