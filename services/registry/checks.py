"""Checks that every change of a resource passes."""

from __future__ import annotations

from google.protobuf.message import Message

from services.common.errors import LatheError, invalid_fields
from services.common.interceptors.validation import check


def check_changed(resource: Message, field: str) -> None:
    """Apply the rules of the proto to a changed resource; `field` is where the request holds it.

    An Update request is not validated as it comes in, because only the fields of its mask count.

    Raises:
        LatheError: INVALID_ARGUMENT with every field that breaks a rule.
    """
    try:
        check(resource)
    except LatheError as error:
        raise invalid_fields([(f"{field}.{path}", description) for path, description in error.fields]) from error
