"""The stream of changes: every committed change of a task, a dataset or a release, for whoever wants to know.

A change is a row of the table `changes`, written in the transaction that makes it. `publisher` moves the rows to the
stream CHANGES of NATS; `reading` reads it. The messages are lathe.watch.v1.Change.
"""
