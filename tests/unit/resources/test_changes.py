from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st
from lathe.registry.v1.model_service_pb2 import ModelVersion

from services.platform.changes import apply_mask, check_etag, etag_of
from services.platform.errors import LatheError
from services.resources.idempotency import fingerprint

ALLOWED = ("display_name", "labels", "package")


def _stored() -> ModelVersion:
    version = ModelVersion(display_name="old", description="kept", labels={"a": "1"})
    version.package.repo = "r"
    version.package.version = "1"
    return version


def test_only_named_fields_change_and_maps_are_replaced() -> None:
    stored = _stored()
    sent = ModelVersion(display_name="new", description="ignored", labels={"b": "2"})
    apply_mask(sent, stored, FieldMask(paths=["display_name", "labels"]), ALLOWED)
    assert stored.display_name == "new"
    assert stored.description == "kept"
    assert dict(stored.labels) == {"b": "2"}


def test_a_named_field_that_is_not_sent_is_cleared() -> None:
    stored = _stored()
    apply_mask(ModelVersion(), stored, FieldMask(paths=["labels", "package"]), ALLOWED)
    assert not stored.labels
    assert not stored.HasField("package")


def test_a_path_reaches_into_a_message() -> None:
    stored, sent = _stored(), ModelVersion()
    sent.package.version = "2"
    apply_mask(sent, stored, FieldMask(paths=["package.version"]), ALLOWED)
    assert (stored.package.repo, stored.package.version) == ("r", "2")


def test_a_star_is_every_allowed_field() -> None:
    stored = _stored()
    apply_mask(ModelVersion(display_name="new", description="no"), stored, FieldMask(paths=["*"]), ALLOWED)
    assert (stored.display_name, stored.description, dict(stored.labels)) == ("new", "kept", {})


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "The mask is empty"),
        (["colour"], "'colour' is not a field of ModelVersion"),
        (["package.colour"], "'package.colour' is not a field of ModelVersion"),
        (["labels.a"], "'labels' which can only be replaced whole"),
        (["display_name.x"], "can only be replaced whole"),
        (["owner"], "'owner' cannot be changed"),
        (["display_name", "name"], "'name' cannot be changed"),
        ([""], "'' is not a field"),
    ],
)
def test_a_wrong_mask_is_refused_and_changes_nothing(paths: list[str], message: str) -> None:
    stored = _stored()
    with pytest.raises(LatheError) as caught:
        apply_mask(ModelVersion(display_name="new"), stored, FieldMask(paths=paths), ALLOWED)
    assert caught.value.fields[0][0] == "update_mask"
    assert message.replace("' which", "', which") in caught.value.message
    assert "display_name, labels, package" in caught.value.message
    assert stored == _stored()


@given(st.lists(st.text(max_size=20), max_size=3))
def test_no_mask_breaks_it(paths: list[str]) -> None:
    fields: list[tuple[str, str]] = []
    try:
        apply_mask(ModelVersion(), _stored(), FieldMask(paths=paths), ALLOWED)
    except LatheError as error:
        fields = error.fields
    assert [field for field, _ in fields] in ([], ["update_mask"])


@given(st.uuids(), st.integers(1, 1000), st.integers(1, 1000))
def test_etags_tell_revisions_apart(uid: UUID, one: int, other: int) -> None:
    assert (etag_of(uid, one) == etag_of(uid, other)) == (one == other)
    assert etag_of(uid, one) != etag_of(uuid4(), one)


def test_a_stale_etag_is_aborted_and_none_is_not_checked() -> None:
    current = etag_of(uuid4(), 2)
    check_etag("", current, "models/a")
    check_etag(current, current, "models/a")
    with pytest.raises(LatheError) as caught:
        check_etag('"old"', current, "models/a")
    assert (caught.value.code.name, caught.value.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert "'models/a' has changed" in caught.value.message


def test_fingerprints_tell_requests_apart() -> None:
    one = fingerprint(ModelVersion(labels={"a": "1", "b": "2"}), "ab", "c")
    assert one == fingerprint(ModelVersion(labels={"b": "2", "a": "1"}), "ab", "c")
    assert one != fingerprint(ModelVersion(labels={"a": "1", "b": "2"}), "a", "bc")
    assert one != fingerprint(ModelVersion(labels={"a": "1"}), "ab", "c")
