"""`lathe tokens`: the file of static tokens that the services read. It holds hashes; a token is shown once."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.output import TABLE, Column, Output, note, plain, print_json, print_rows

if TYPE_CHECKING:
    from services.platform.tokens import StaticToken

tokens = typer.Typer(
    help="Tokens of users, in a file that the services read again when it changes.", no_args_is_help=True
)

_VARIABLE = "LATHE_AUTH_TOKENS_FILE"
_UNITS = {"d": 86_400, "h": 3_600, "m": 60}
TokensFile = Annotated[
    Path | None, typer.Option("--file", help=f"The file of tokens; else ${_VARIABLE}.", dir_okay=False)
]

TOKENS: list[Column[Any]] = [
    Column("id", lambda token: plain(token.id), whole=True),
    Column("user", lambda token: plain(token.user)),
    Column("groups", lambda token: plain(", ".join(token.groups))),
    Column("expires", lambda token: _expiry(token)),  # noqa: PLW0108 - defined below
]


@tokens.command("add")
def add(
    user: Annotated[str, typer.Argument(help="Whose token it is.")],
    file: TokensFile = None,
    group: Annotated[list[str] | None, typer.Option(help="A group of this user; may be repeated.")] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="After how long it ends: 90d, 12h, 30m; or never.")
    ] = "90d",
) -> None:
    """Make a token for a user, and print it: it is nowhere else. Running services take it within a second."""
    from services.platform.identity import is_name
    from services.platform.tokens import StaticToken, hash_of, new_token

    groups = tuple(dict.fromkeys(group or ()))
    if not all(map(is_name, (user, *groups))):
        raise CliError("Users and groups are named by 1 to 128 printable ASCII characters.", ExitCode.USAGE)
    ends = _ends(expires)
    with _changing(_chosen(file)) as kept:
        token = new_token()
        sha256 = hash_of(token)
        kept.append(StaticToken(id=sha256[:8], sha256=sha256, user=user, groups=groups, expire_time=ends))
    typer.echo(token)
    until = f"until {ends:%Y-%m-%d %H:%M} UTC" if ends else "for ever"
    note(f"Token {sha256[:8]} of {user}, valid {until}. Set LATHE_TOKEN to it; it is not shown again.")


@tokens.command("list")
def show(file: TokensFile = None, output: Output = TABLE) -> None:
    """Show the tokens of the file: whose they are and when they end, never the tokens themselves."""
    from services.platform.tokens import read_tokens

    found = read_tokens(_chosen(file))
    if output is not TABLE:
        print_json([token.model_dump(mode="json", exclude={"sha256"}, exclude_defaults=True) for token in found])
        return
    print_rows(found, TOKENS)


@tokens.command("revoke")
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Tokens, by their ids of `lathe tokens list`.")],
    file: TokensFile = None,
) -> None:
    """Take tokens out of the file. Running services refuse them within a second."""
    with _changing(_chosen(file)) as kept:
        unknown = set(ids) - {token.id for token in kept}
        if unknown:
            raise CliError(f"There is no token {', '.join(sorted(unknown))}; `lathe tokens list` shows them.")
        kept[:] = [token for token in kept if token.id not in ids]


@tokens.command("convert")
def convert(file: TokensFile = None) -> None:
    """Replace the tokens in a file of an earlier release by their hashes. The tokens stay valid."""
    with _changing(_chosen(file)) as kept:
        note(f"The file has the hashes of {len(kept)} tokens now.")


def _chosen(file: Path | None) -> Path:
    chosen = file or Path(os.environ.get(_VARIABLE, ""))
    if chosen == Path():
        raise CliError(f"Say which file: --file, or ${_VARIABLE} as the services have it.", ExitCode.USAGE)
    return chosen


@contextmanager
def _changing(path: Path) -> Iterator[list[StaticToken]]:
    """Give the tokens of a file; what the block made of them replaces it at once, if the block does not fail."""
    from services.local.secret import write_private
    from services.platform.tokens import packed, read_tokens

    # Two who change it at the same time take turns.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        there = path.exists()
        found = list(read_tokens(path)) if there else []
        yield found
        mode = path.stat().st_mode if there else None
        write_private(path, packed(found))
        if mode is not None:
            path.chmod(mode)
    finally:
        os.close(folder)


def _ends(expires: str) -> datetime | None:
    if expires == "never":
        return None
    parts = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", expires)
    if parts is None:
        raise CliError(f"--expires {expires!r} must be like 90d, 12h or 30m, or never.", ExitCode.USAGE)
    return (datetime.now(UTC) + timedelta(seconds=int(parts[1]) * _UNITS[parts[2]])).replace(microsecond=0)


def _expiry(token: StaticToken) -> str:
    if token.expire_time is None:
        return "never"
    text = f"{token.expire_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"[red]{text}, expired[/]" if token.ended else text
