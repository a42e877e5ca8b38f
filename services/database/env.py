"""What Alembic runs to migrate: `services/database/migration.py` hands it the connection and the schema."""

from alembic import context

_given = context.config.attributes
context.configure(
    connection=_given["connection"], version_table=_given["version_table"], version_table_schema=_given["schema"]
)
with context.begin_transaction():
    context.run_migrations()
