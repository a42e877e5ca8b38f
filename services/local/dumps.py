"""Dumps of the database, by PostgreSQL's own programs: those of the embedded server, which read older servers, too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from services.local.errors import LocalError
from services.local.postgres import postgres_program

# A repository of releases may have been copied at another moment than its rows: the registry compares and settles it.
_SETTLE = """
INSERT INTO registry.unsettled_channels (channel, mark) SELECT name, gen_random_uuid() FROM registry.channels
ON CONFLICT (channel) DO NOTHING;
"""


def dump(url: str, file: Path) -> None:
    """Write what the database holds at one moment into a file, compressed.

    Raises:
        LocalError: PostgreSQL does not answer, or refuses.
    """
    where, environment = _connection(url)
    command = [postgres_program("pg_dump"), "--format=custom", "--no-password", f"--file={file}", where]
    told = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if told.returncode != 0:
        raise LocalError(f"The database could not be dumped.\n{told.stderr.strip()}")


def is_empty(url: str) -> bool:
    """Return whether no release of Lathe has ever used a database.

    Raises:
        LocalError: PostgreSQL does not answer, or refuses.
    """
    where, environment = _connection(url)
    asked = "SELECT count(*) FROM pg_namespace WHERE nspname = 'lathe'"
    command = [postgres_program("psql"), "--no-psqlrc", "--no-password", "-At", f"--command={asked}", where]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise LocalError(f"The database does not answer. It has to exist, and to be empty.\n{told.stderr.strip()}")
    return str(told.stdout).strip() == "0"


def load(url: str, file: Path) -> None:
    """Bring a dump into an empty database: all of it, or nothing.

    Raises:
        LocalError: The dump is damaged, or PostgreSQL refuses.
    """
    where, environment = _connection(url)
    reading = [postgres_program("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(file)]
    writing = [postgres_program("psql"), "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", where]
    with (
        subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader,
        subprocess.Popen(
            writing, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as writer,
    ):
        assert reader.stdout
        assert writer.stdin
        complaint = b""
        try:
            writer.stdin.write(b"BEGIN;\n")
            while block := reader.stdout.read(1 << 20):
                writer.stdin.write(block)
            # Without a COMMIT at the end, nothing of a dump that breaks off stays.
            if reader.wait() == 0:
                writer.stdin.write(b"RESET search_path;\n" + _SETTLE.encode() + b"COMMIT;\n")
            writer.stdin.close()
        except BrokenPipeError:
            reader.kill()
        assert writer.stderr
        assert reader.stderr
        complaint = writer.stderr.read() or reader.stderr.read()
        failed = writer.wait() != 0 or reader.wait() != 0
    if failed:
        raise LocalError(
            f"The database could not be restored from {file}.\n{complaint.decode(errors='replace').strip()}"
        )


def _connection(url: str) -> tuple[str, dict[str, str]]:
    """Return the address without its password, which others could read in the list of processes, and the variables."""
    parts = urlsplit(url)
    authority = parts.netloc
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if parts.password is not None:
        authority = f"{parts.netloc.partition(':')[0]}@{parts.netloc.rpartition('@')[2]}"
        own["PGPASSWORD"] = unquote(parts.password)
    return urlunsplit(parts._replace(netloc=authority)), own
