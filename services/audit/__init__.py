"""The audit log: who changed what and when, and what was refused. It is written in the transaction of the change."""
