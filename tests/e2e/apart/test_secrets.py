"""A suite with TLS, tokens and an identity provider: two projects work in it, apart, and no secret gets out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from tests.certificates import Authority
from tests.e2e.conftest import COMMAND, Suite, start_suite
from tests.e2e.spans import receiving
from tests.e2e.tiny import network_source, save_weights, template_text
from tests.eventually import wait_for
from tests.unit.platform.provider import AUDIENCE, ISSUER, Provider, provider

SERVICE_TOKEN = "planted-token-of-the-services"
PLAIN_TOKEN = "planted-token-of-old"
BOBS_TOKEN = "planted-token-of-bob"
WRONG_TOKEN = "planted-token-of-nobody"
# What makes a URL of the store good for whoever reads it.
SIGNATURE = rb"X-Amz-Signature=[0-9a-f]{16}"
# Where the embedded servers' secrets are kept, for their owner alone: beside their data.
KEPT = re.compile(r"^(nats|postgres|s3)/[^/]+$")


class Desk:
    """A user's desk: `lathe` with TLS and a token."""

    def __init__(self, suite: Suite, ca: Path) -> None:
        self.suite, self.ca = suite, ca
        self.said = ""

    def lathe(self, *words: str, token: str, project: str = "", code: int = 0) -> str:
        """Run a command; what it says is kept."""
        environment = self.suite.environment() | {"LATHE_TLS_CA_FILE": str(self.ca), "LATHE_TOKEN": token}
        environment |= {"LATHE_PROJECT": project} if project else {}
        done = subprocess.run(
            [*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=500, check=False
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == code or (code and done.returncode), f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def login() -> Iterator[Provider]:
    with provider() as found:
        yield found


def engines_of(suite: Suite) -> dict[str, bytes]:
    """Return the environments of the children of workers and services: of what reads strangers' files."""
    own = {part["pid"] for name, part in suite.parts.items() if name not in {"postgres", "nats", "s3"}}
    found = {}
    for child in (child for pid in own for child in psutil.Process(pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            found[f"environment of process {child.pid}"] = repr(child.environ()).encode()
    return found


def commands_of(suite: Suite) -> dict[str, bytes]:
    """Return the command lines of all processes."""
    found = {}
    for process in suite.family():
        with suppress(psutil.NoSuchProcess):
            found[f"command of {process.name()} {process.pid}"] = repr(process.cmdline()).encode()
    return found


def work(desk: Desk, folder: Path, ada: str, eve: str) -> str:
    """Do some work as ada, and let others fail; return what ada's folder of results is."""
    source, template = folder / "tiny_net.py", folder / "template.yaml"
    source.write_text(network_source("TinyNet"))
    template.write_text(template_text("Tiny"))
    weights = save_weights(folder)[0]
    desk.lathe("projects", "create", "vision", "--member", "group:vision=ADMIN", token=PLAIN_TOKEN)
    desk.lathe("projects", "create", "sound", "--member", "user:bob=EDITOR", token=PLAIN_TOKEN)
    mine = partial(desk.lathe, token=ada, project="vision")
    mine("architectures", "create", str(source))
    mine("templates", "create", str(template), "--id", "tiny")
    mine("models", "push", "tiny", str(weights), "--create", "--architecture", "tinynet")
    mine("convert", "tiny/1", "-t", "tiny")
    mine("models", "download", "tiny/2", "-d", str(folder / "package"))
    (task,) = json.loads(mine("tasks", "list", "-o", "json"))
    look_from_elsewhere(desk, folder, ada, task["name"])
    desk.lathe("models", "push", "broken", str(source), "--create", token=ada, code=1)
    desk.lathe("convert", "tiny/1", "-t", "tiny", "--set", "runtime=nothing", token=ada, code=1)
    for token in (eve, WRONG_TOKEN, f"{ada}x"):
        desk.lathe("models", "list", token=token, code=1)
    return desk.lathe("whoami", "-o", "json", token=ada)


def look_from_elsewhere(desk: Desk, folder: Path, ada: str, task: str) -> None:
    """Be bob, in another project: what is ada's does not exist, until it is shared; then bob works with it."""
    bob = partial(desk.lathe, token=BOBS_TOKEN, project="sound")
    for lists in ("models", "tasks"):
        assert json.loads(bob(lists, "list", "-o", "json")) == []
    for words in (
        ("models", "get", "tiny"),
        ("models", "lineage", "tiny/2"),
        ("models", "download", "tiny/2", "-d", str(folder / "stolen")),
        ("tasks", "watch", task),
        ("tasks", "logs", task),
    ):
        bob(*words, code=1)
    assert not (folder / "stolen").exists()
    for name in ("models/tiny", "architectures/tinynet"):
        desk.lathe("projects", "share", name, "sound", token=ada)
    told = bob("models", "get", "tiny/2", "-o", "json") + bob("models", "lineage", "tiny/2", "-o", "json")
    assert "models/tiny/versions/1" in told
    assert task not in told
    assert "templates/tiny" not in told
    own = folder / "bobs.yaml"
    own.write_text(template_text("Bob's"))
    bob("templates", "create", str(own), "--id", "bobs")
    bob("models", "create", "bobs")
    bob("convert", "tiny/1", "-t", "bobs", "--output-model", "bobs")
    assert "models/bobs" in bob("models", "lineage", "bobs/1", "-o", "json")
    assert "models/bobs" not in desk.lathe("models", "lineage", "tiny/1", "-o", "json", token=ada, project="vision")


@pytest.mark.timeout(1200)
def test_secrets_stay_where_they_belong(tmp_path: Path, login: Provider) -> None:
    files = Authority(tmp_path).issue("127.0.0.1")
    tokens, state = tmp_path / "tokens.json", tmp_path / "state"
    tokens.write_text(json.dumps({PLAIN_TOKEN: "ann", BOBS_TOKEN: "bob"}))
    ada, eve = login.token(exp=int(time.time()) + 3600), login.token(aud="elsewhere", sub="eve")
    with receiving(keep=True) as receiver:
        environment = {
            "LATHE_OTLP_ENDPOINT": receiver.url,
            "LATHE_LOG_LEVEL": "debug",
            "LATHE_AUTH_TOKENS_FILE": str(tokens),
            "LATHE_SERVICE_TOKEN": SERVICE_TOKEN,
            "LATHE_ADMINS": "ann",
            "LATHE_AUTH_ISSUER": ISSUER,
            "LATHE_AUTH_AUDIENCE": AUDIENCE,
            "LATHE_AUTH_JWKS": login.url,
            **{f"LATHE_{name.upper()}": str(value) for name, value in files.settings().items()},
        }
        suite = start_suite(state, environment=environment)
        try:
            embedded_ones = embedded(suite)
            secrets = {
                "the services' token": SERVICE_TOKEN,
                "a user's token": PLAIN_TOKEN,
                "another user's token": BOBS_TOKEN,
                "a token that nobody knows": WRONG_TOKEN,
                "a JWT": ada.rpartition(".")[2],
                "a refused JWT": eve.rpartition(".")[2],
                "the server's key": files.key.read_text().splitlines()[1],
                **embedded_ones,
            }
            desk = Desk(suite, files.ca)
            me = json.loads(work(desk, tmp_path, ada, eve))
            assert (me["user"], me["authentication"], me["groups"]) == ("ada", "AUTHENTICATION_JWT", ["ops", "vision"])
            desk.lathe("whoami", token=PLAIN_TOKEN)
            texts: dict[str, bytes] = {}

            def some_child() -> bool:
                texts.update(engines_of(suite))
                return bool(texts)

            wait_for(some_child)  # each worker keeps one ready
            texts |= asyncio.run(rows(suite)) | commands_of(suite)
        finally:
            left = suite.stop(signal.SIGINT)
        assert left == []
    texts |= {"what commands said": desk.said.encode(), "traces": bytes(receiver.kept)}
    assert receiver.kept, "no span has come"
    assert b"tiny" in texts["table registry.models"]
    for folder in (state, tmp_path / "package"):
        texts |= dict(contents(folder))
    assert found(texts, secrets) == []
    # The search does find them where they are kept.
    kept = {
        str(path): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and KEPT.match(path.relative_to(state).as_posix())
    }
    assert {name for name, _ in found(kept, embedded_ones)} == set(embedded_ones)


def embedded(suite: Suite) -> dict[str, str]:
    """Return the secrets that the suite made for its servers."""
    secrets: dict[str, str] = {}
    for name in ("registry", "converter", "worker-conversion"):
        told = psutil.Process(suite.parts[name]["pid"]).environ()
        secrets[f"the store's key of {name}"] = told["LATHE_S3_SECRET_KEY"]
        secrets[f"the password for NATS of {name}"] = urlsplit(told["LATHE_NATS_URL"]).password or ""
        secrets[f"the password for PostgreSQL of {name}"] = urlsplit(told.get("LATHE_DATABASE_URL", "")).password or ""
    return {name: secret for name, secret in secrets.items() if len(secret) >= 8}


async def rows(suite: Suite) -> dict[str, bytes]:
    """Return the rows of all tables that a service can read; in the files of the database, long ones are compressed."""
    texts = {}
    for name in ("registry", "template", "converter"):
        url = psutil.Process(suite.parts[name]["pid"]).environ()["LATHE_DATABASE_URL"]
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch(
                "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') "
                "AND has_table_privilege(format('%I.%I', schemaname, tablename), 'SELECT') "
                "AND has_schema_privilege(schemaname, 'USAGE')"
            )
            for table in [each["name"] for each in tables]:
                found = await connection.fetch(f"SELECT t::text AS row FROM {table} AS t")
                texts[f"table {table}"] = "\n".join(each["row"] for each in found).encode()
        finally:
            await connection.close()
    return texts


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield all files but those that keep secrets and that nobody else can read."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        private = path.stat(follow_symlinks=False).st_mode & 0o077 == 0
        if path.is_file() and not (private and KEPT.match(name)):
            yield name, path.read_bytes()


def found(texts: dict[str, bytes], secrets: dict[str, str]) -> list[tuple[str, str]]:
    """Return what was found: (secret, place)."""
    wanted: dict[str, Any] = {name: re.compile(re.escape(secret.encode())) for name, secret in secrets.items()}
    wanted["a signed URL"] = re.compile(SIGNATURE)
    return [(name, place) for place, text in texts.items() for name, pattern in wanted.items() if pattern.search(text)]
