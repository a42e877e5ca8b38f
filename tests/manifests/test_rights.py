"""What the stores of `deploy/` are told of rights is what the code says, and what the servers take."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.rights import devices, files, services, variable
from services.local.server import installed_binary
from services.storage.rights import ROLES
from tests.manifests.deployed import COMPOSE, KUBERNETES

COMPLETE = KUBERNETES / "overlays/complete"
PLACES = [COMPOSE.parent, COMPLETE]
# Of "Supported S3 Policy Actions" in MinIO's documentation of access by policies.
ACTIONS = {
    "s3:*", "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket",
    "s3:ListMultipartUploadParts", "s3:PutObject",
}  # fmt: skip


@pytest.mark.parametrize(("path", "text"), files().items(), ids=lambda value: getattr(value, "name", ""))
def test_the_file_is_what_the_code_says(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run `make rights`"


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_nats_takes_its_configuration(place: Path) -> None:
    users = (place / "nats-users.conf").read_text(encoding="utf-8")
    passwords = {
        name: f"p{number}" for number, name in enumerate(sorted(set(re.findall(r"\$(NATS_PASSWORD\w*)", users))))
    }
    command = [str(installed_binary("nats-server", "LATHE_NATS_URL")), "-t", "--config", str(place / "nats.conf")]
    environment = {**os.environ, "POD_NAME": "nats-0", **passwords}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    del environment["NATS_PASSWORD_REGISTRY"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "NATS_PASSWORD_REGISTRY" in told.stderr


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_minio_gets_policies_in_its_language_for_every_role(place: Path) -> None:
    program = (place / "minio-rights.sh").read_text(encoding="utf-8")
    for role in ROLES:
        policy = json.loads((place / f"minio-{role}.json").read_text(encoding="utf-8"))
        assert policy.keys() == {"Version", "Statement"}
        for statement in policy["Statement"]:
            assert statement.keys() == {"Effect", "Action", "Resource"}
            assert statement["Effect"] in ("Allow", "Deny")
            assert set(statement["Action"]) <= ACTIONS
            assert all(re.fullmatch(r"arn:aws:s3:::lathe(/.*)?", each) for each in statement["Resource"])
        assert f'give {role} "$S3_PASSWORD_{role.upper()}"' in program
    assert program == (PLACES[0] / "minio-rights.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("attached", [False, True])
def test_the_roles_are_given_their_policies_once(tmp_path: Path, attached: bool) -> None:
    """With a stand-in for MinIO's client: what it is asked for."""
    listed = "PolicyName: lathe-registry, lathe-tasks, lathe-worker" if attached else "none"
    (tmp_path / "mc").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *entities*) echo "{listed}";; esac\n'
    )
    (tmp_path / "mc").chmod(0o755)
    passwords = {f"S3_PASSWORD_{role.upper()}": f"secret-{role}" for role in ROLES}
    owner = {"MINIO_URL": "http://minio:9000", "MINIO_ROOT_USER": "lathe", "MINIO_ROOT_PASSWORD": "root"}
    program = COMPLETE / "minio-rights.sh"
    subprocess.run(["sh", str(program)], env={"PATH": f"{tmp_path}:/bin:/usr/bin", **owner, **passwords}, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    for role in ROLES:
        assert f"--quiet admin policy create store lathe-{role} {COMPLETE}/minio-{role}.json" in asked
        assert f"--quiet admin user add store {role} secret-{role}" in asked
        assert (f"--quiet admin policy attach store lathe-{role} --user {role}" in asked) is not attached


def test_the_cluster_has_a_secret_for_every_role() -> None:
    made = yaml.safe_load((COMPLETE / "kustomization.yaml").read_text(encoding="utf-8"))["secretGenerator"]
    named = {each["name"] for each in made}
    assert {f"lathe-{user}" for user in (*services(), *devices(), "template") if user != "watcher"} <= named
    asked = set(re.findall(r"\$(NATS_PASSWORD\w*)", (COMPLETE / "nats-users.conf").read_text(encoding="utf-8")))
    assert asked == {variable(user) for user in (*services(), *devices(), "lathe")}
