"""The rules that the protos declare with `buf.validate`, and that enums have known values, applied to every request."""

from __future__ import annotations

import re
from typing import Any

import protovalidate
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, Message

from services.platform.changes import names_field
from services.platform.errors import invalid_argument, invalid_fields
from services.platform.interceptors.patterns import wanted
from services.platform.interceptors.values import meaningless_values

_validator = protovalidate.Validator()
_SHOWN = 60
# Clearer than the validator's own words for the most frequent mistake.
_EMPTY = {
    ("string.min_len", "must be at least 1 characters"): "must not be empty",
    ("enum.not_in", "must not be in list [0]"): "must be set",
}


def decode(message_type: Any, raw: bytes) -> Message:
    """Return the request; raise LatheError if the bytes are not such a message."""
    try:
        message: Message = message_type(raw)
    except DecodeError:
        raise invalid_argument("", "The request is not a message that this method takes.") from None
    return message


def check(message: Message, inside: str = "", changed: FieldMask | None = None) -> None:
    """Raise LatheError with every field that breaks a rule, or is an enum with a number that it does not define.

    Args:
        message: A request, or the resource that an Update request would leave behind: the request itself is not
            checked as it comes in, because only the fields of its mask count.
        inside: Where the request holds the message, for the paths of the fields.
        changed: The mask of an Update request. Its fields alone are checked: what was stored before a rule became
            stricter must not keep users from changing the rest.
    """
    wrong = [(_path(each), _description(each)) for each in _validator.collect_violations(message)]
    told = {path for path, _ in wrong}
    wrong += [(path, description) for path, description in meaningless_values(message) if path not in told]
    if changed is not None:
        # A rule of the whole message has no path.
        wrong = [each for each in wrong if not each[0] or names_field(changed, re.split(r"[.\[]", each[0])[0])]
    if wrong:
        raise invalid_fields([(f"{inside}.{path}".strip("."), description) for path, description in wrong])


def _path(violation: protovalidate.Violation) -> str:
    """Return the path as a person writes it: `spec.inputs[2].labels["key"]`."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            path += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
    return path


def _description(violation: protovalidate.Violation) -> str:
    if empty := _EMPTY.get((violation.proto.rule_id, violation.proto.message)):
        return empty
    message = violation.proto.message or f"breaks the rule {violation.proto.rule_id}"
    if violation.proto.rule_id == "string.pattern":
        message = wanted(str(violation.rule_value)) or message
    subject = "the key " if violation.proto.for_key else ""
    value = violation.field_value
    # An empty or composite value is told well enough by the rule itself.
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return subject + message
    shown = repr(value) if len(repr(value)) <= _SHOWN else repr(value)[:_SHOWN] + "…"
    return f"{subject}{shown} {message}"
