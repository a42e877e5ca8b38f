"""The table of the audit log. Each schema whose resources callers change has one: a transaction writes both."""

from __future__ import annotations

KEPT_AT_LEAST_DAYS = 30
"""The database refuses to delete an entry that is younger."""

AUDIT_TABLE = (
    """
    CREATE TABLE audit (
        -- A UUID of version 7, which is in the order of time.
        uid uuid PRIMARY KEY,
        create_time timestamptz NOT NULL,
        project text COLLATE "C" NOT NULL,
        caller text COLLATE "C" NOT NULL,
        method text COLLATE "C" NOT NULL,
        resource text COLLATE "C" NOT NULL,
        code text COLLATE "C" NOT NULL,
        -- lathe.internal.v1.AuditRecord
        payload bytea NOT NULL
    )
    """,
    "CREATE INDEX audit_project ON audit (project, uid)",
    "CREATE INDEX audit_caller ON audit (caller, uid)",
    "CREATE INDEX audit_resource ON audit (resource, uid)",
    # It binds the owner of the table, too, as rights do not.
    """
    CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'The audit log is only added to. Entries leave it by age, after 30 days at the earliest '
            '(LATHE_AUDIT_RETENTION_DAYS).' USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    "CREATE TRIGGER audit_unchanged BEFORE UPDATE OR TRUNCATE ON audit EXECUTE FUNCTION keep_audit()",
    """
    CREATE TRIGGER audit_kept BEFORE DELETE ON audit FOR EACH ROW
    WHEN (OLD.create_time > now() - interval '30 days') EXECUTE FUNCTION keep_audit()
    """,
)
"""Statements for the migration of a schema. Their results never change."""
