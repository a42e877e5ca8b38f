"""The statements that write tasks, each with the messages and the changes that are to be published of it."""

from __future__ import annotations

from services.database.arrays import of_any_length
from services.tasks.state.queue import HANDED_ON
from services.tasks.state.turns import HIGHEST_PRIORITY

# One that ended without a result could not be registered: its outcome serves, but one with a result is better. Each key
# is looked up by itself (OFFSET 0 keeps the planner from merging the queries): for several keys at once it would choose
# to read the whole table while that is small, or all tasks of a state, and keep to that plan as the table grows.
HIT = f"""
SELECT found.uid FROM unnest({of_any_length("{keys}::bytea[]")}) AS wanted (key) CROSS JOIN LATERAL (
    SELECT uid, state FROM tasks WHERE action_key = wanted.key AND outcome IS NOT NULL OFFSET 0
) AS found WHERE found.state IN (3, 4, 6) ORDER BY found.state = 3 DESC, found.uid DESC LIMIT 1
"""  # noqa: S608 - our own words

CREATE = f"""
WITH hit AS ({HIT.format(keys="$14")}),
lead AS (SELECT uid, project FROM tasks WHERE $15 AND leads AND work_key = $12),
made AS (
    INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, device,
        state, request_id, request_digest, work_key, leads, leader, dispatches, held, assignment, body, live,
        uses, action_key, outcome, priority, project)
    SELECT $1, $2, $3, $4, $5, $6, $6, 1, $7, $8, $9, $10, $11, $12, $15 AND NOT EXISTS (SELECT FROM lead),
        (SELECT uid FROM lead), 1, $13, $16, $17, $18, $20, $21, $22, $23, $27
    WHERE NOT EXISTS (SELECT FROM hit)
    RETURNING uid, leader
),
queued AS (
    INSERT INTO queue (task, device, owner, rank, msg_id, sent)
    SELECT uid, $8, $4, {HIGHEST_PRIORITY} - $23, $19, CASE WHEN $24 THEN now() END
    FROM made WHERE leader IS NULL AND $19 <> ''
    RETURNING task
),
-- Who waits for the result of an equal task lends it its priority.
raised AS (
    UPDATE queue SET rank = {HIGHEST_PRIORITY} - $23 FROM made
    WHERE queue.task = made.leader AND queue.rank > {HIGHEST_PRIORITY} - $23
),
told AS (INSERT INTO changes (subject, revision, payload) SELECT $25, 1, $26 FROM made),
noted AS (
    INSERT INTO audit (uid, create_time, project, caller, method, resource, code, payload)
    SELECT $28, $29, $30, $31, $32, $33, $34, $35 FROM made WHERE $28::uuid IS NOT NULL
)
SELECT (SELECT uid FROM hit), (SELECT leader FROM made), (SELECT project FROM lead), EXISTS (SELECT FROM queued)
"""  # noqa: S608 - our own words

SAVE = f"""
WITH new AS (
    SELECT * FROM unnest({of_any_length("$1::uuid[]")},
        $2::bigint[], $3::smallint[], $4::bytea[], $5::boolean[], $6::uuid[], $7::bytea[], $8::bytea[], $9::boolean[],
        $10::integer[], $16::text[], $17::bytea[])
    AS n (uid, revision, state, live, leads, leader, action_key, outcome, held, dispatches, subject, news)
),
saved AS (
    UPDATE tasks t SET state = n.state, live = n.live, leads = n.leads, leader = n.leader,
        action_key = n.action_key, outcome = n.outcome, held = n.held, dispatches = n.dispatches,
        revision = t.revision + 1, update_time = $11
    FROM new n WHERE t.uid = n.uid AND t.revision = n.revision
    RETURNING t.uid, t.state, t.device, t.owner, t.priority
),
sent AS (
    INSERT INTO outbox (task, subject, msg_id, payload)
    SELECT o.task, o.subject, o.msg_id, o.payload
    FROM unnest({of_any_length("$12::uuid[]")}, $13::text[], $14::text[], $15::bytea[])
        AS o (task, subject, msg_id, payload)
    JOIN saved ON saved.uid = o.task
),
claimed AS (DELETE FROM queue USING saved WHERE queue.task = saved.uid AND saved.state <> 1),
queued AS (
    INSERT INTO queue (task, device, owner, rank, msg_id, payload, sent)
    SELECT d.task, saved.device, saved.owner,
        CASE WHEN d.begun THEN {HANDED_ON} ELSE {HIGHEST_PRIORITY} - saved.priority END,
        d.msg_id, d.payload, CASE WHEN d.begun THEN now() END
    FROM unnest({of_any_length("$18::uuid[]")}, $19::text[], $20::bytea[], $21::boolean[])
        AS d (task, msg_id, payload, begun)
    JOIN saved ON saved.uid = d.task
    ON CONFLICT (task) DO UPDATE
    SET rank = excluded.rank, msg_id = excluded.msg_id, payload = excluded.payload, sent = excluded.sent
),
told AS (
    INSERT INTO changes (subject, revision, payload)
    SELECT n.subject, n.revision + 1, n.news FROM new n JOIN saved ON saved.uid = n.uid
)
SELECT uid FROM saved
"""  # noqa: S608 - our own words

RENAME = """
WITH renamed AS (
    UPDATE tasks SET body = $3, display_name = $4, labels = $5, search_text = $6, revision = revision + 1,
        update_time = $7
    WHERE uid = $1 AND revision = $2 RETURNING revision
),
told AS (INSERT INTO changes (subject, revision, payload) SELECT $8, revision, $9 FROM renamed)
SELECT count(*) FROM renamed
"""

DELETE = """
WITH gone AS (
    DELETE FROM tasks WHERE uid = $1 AND revision = $2 RETURNING uid, owner, request_id, request_digest
),
remembered AS (
    INSERT INTO request_ids (owner, request_id, method, fingerprint, resource)
    SELECT owner, request_id, 'Create', request_digest, uid FROM gone WHERE request_id IS NOT NULL
    ON CONFLICT DO NOTHING
),
told AS (INSERT INTO changes (subject, revision, payload) SELECT $3, $2 + 1, $4 FROM gone)
SELECT count(*) FROM gone
"""
