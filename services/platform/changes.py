"""Changes of resources: field masks and etags."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from services.platform.errors import LatheError, aborted, invalid_argument

__all__ = ["apply_mask", "check_etag", "etag_of", "names_field"]

MASK_FIELD = "update_mask"


def etag_of(uid: UUID, revision: int) -> str:
    """Return the etag of a revision of a resource: a quoted hash, as in HTTP."""
    return f'"{hashlib.sha256(uid.bytes + revision.to_bytes(8, "big")).hexdigest()[:20]}"'


def check_etag(sent: str, current: str, name: str) -> None:
    """Refuse a change that was made for another revision; an empty etag asks for no check.

    Raises:
        LatheError: ABORTED, reason ETAG_MISMATCH.
    """
    if sent and sent != current:
        raise aborted(
            "ETAG_MISMATCH",
            f"'{name}' has changed since it was read: its etag is {current}, the request says {sent}. "
            "Read it again, apply the change to what it is now, and send that with its new etag.",
        )


def apply_mask(source: Message, target: Message, mask: FieldMask, allowed_fields: Collection[str]) -> None:
    """Copy the fields that a mask names from `source` to `target`, replacing messages, lists and maps whole.

    Args:
        source: the message of the request.
        target: the stored message, changed in place.
        mask: paths such as `display_name` or `spec.device`; `*` stands for all allowed fields.
        allowed_fields: the fields that may change, with everything inside them.

    Raises:
        LatheError: INVALID_ARGUMENT for field `update_mask`, naming the path.
    """
    paths = sorted(allowed_fields) if list(mask.paths) == ["*"] else list(mask.paths)
    if not paths:
        raise _refused("The mask is empty", allowed_fields)
    for path in paths:
        _check(path, source, allowed_fields)
    FieldMask(paths=paths).MergeMessage(source, target, replace_message_field=True, replace_repeated_field=True)


def names_field(mask: FieldMask, field: str) -> bool:
    """Return whether a mask names a field, something in it, or all fields."""
    return any(path.partition(".")[0] in {field, "*"} for path in mask.paths)


def _check(path: str, message: Message, allowed_fields: Collection[str]) -> None:
    descriptor = message.DESCRIPTOR
    name = descriptor.name
    parts = path.split(".")
    for depth, part in enumerate(parts):
        field = descriptor.fields_by_name.get(part)
        if field is None:
            raise _refused(f"'{path}' is not a field of {name}", allowed_fields)
        if depth == len(parts) - 1:
            break
        if field.is_repeated or field.message_type is None:
            inside = ".".join(parts[: depth + 1])
            raise _refused(f"'{path}' points into '{inside}', which can only be replaced whole", allowed_fields)
        descriptor = field.message_type
    if not any(path == allowed or path.startswith(allowed + ".") for allowed in allowed_fields):
        raise _refused(f"'{path}' cannot be changed", allowed_fields)


def _refused(problem: str, allowed_fields: Collection[str]) -> LatheError:
    fields = ", ".join(sorted(allowed_fields)) or "none"
    return invalid_argument(MASK_FIELD, f"{problem}. Fields that can be changed: {fields}.")
