"""PostgreSQL: a pool and a schema for each service, migrations, leases."""
