"""Arrays as parameters, in statements that run so often that PostgreSQL should plan them once."""

from __future__ import annotations


def of_any_length(parameter: str) -> str:
    """Return the array of a parameter, such as `$1::uuid[]`, so written that the planner does not look at its length.

    PostgreSQL keeps the plan of a prepared statement only if that seems to cost no more than a plan for the values of
    the call. For `uid = ANY ($1)` it assumes ten values, finds that the call has one, and plans each call anew: 0.15
    of the 0.19 ms that a task by its uid took. The plan that is kept is that for ten values, and for the table as it
    was analyzed last.
    """
    return f"ARRAY(SELECT unnest({parameter}))"
