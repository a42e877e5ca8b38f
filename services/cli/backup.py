"""`lathe backup` and `lathe restore`: all of a suite's state in a folder, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import CliError
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import TABLE, Output, OutputFormat, note, plain, print_json

if TYPE_CHECKING:
    from services.local.backup import Backup

_SHOWN = 5


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to; a backup that it has already is brought up to date.")],
    data_dir: DataDir = None,
    output: Output = TABLE,
) -> None:
    """Copy all of a suite's state into a folder, while it runs or not: the database, and every stored file.

    The servers are the embedded ones of the data directory, or those that LATHE_DATABASE_URL, LATHE_S3_ENDPOINT (with
    its keys) and LATHE_NATS_URL name. Of NATS, nothing is needed. Passwords and tokens are not part of a backup.
    """
    from services.local.backup import back_up

    made = back_up(folder, chosen_data_dir(data_dir), os.environ)
    _tell(made, output, f"Backed up into {plain(folder)}")
    if made.damaged:
        shown = "\n".join(made.damaged[:_SHOWN])
        raise CliError(
            f"{len(made.damaged)} stored files are damaged in the store, and not in the backup; what needs them cannot "
            f"be read. Restore these objects from an earlier backup:\n{shown}"
        )


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `lathe backup` made.")],
    data_dir: DataDir = None,
    output: Output = TABLE,
) -> None:
    """Bring a backup into a suite that has never run, and is not running; then start it with `lathe up`.

    The servers are named as for `lathe backup`; the database and NATS must be empty. The clients' `resume_token`s of
    watches expire; tasks that were running begin again.
    """
    from services.local.backup import restore as bring_back

    made = bring_back(folder, chosen_data_dir(data_dir), os.environ)
    _tell(made, output, f"Restored from {plain(folder)}, as it was at {made.time}")


def _tell(made: Backup, output: OutputFormat, sentence: str) -> None:
    from dataclasses import asdict

    if output is OutputFormat.JSON:
        print_json(asdict(made))
    else:
        note(f"{sentence}: the database and {made.objects} stored files ({made.bytes / 2**20:.1f} MiB).")
