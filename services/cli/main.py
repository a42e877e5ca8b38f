"""The `lathe` command. Every command or group is a line in COMMANDS or GROUPS, with its own module here.

Modules of commands import typer and the helpers beside them at their top, and everything heavy (gRPC, protos, rich,
engines) inside their functions, so that `lathe --help` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from services.cli import logs, status, up
from services.cli.aliases import aliases
from services.cli.approvals import approvals, approve
from services.cli.architectures import architectures
from services.cli.audit import audit
from services.cli.backup import backup, restore
from services.cli.channels import channels
from services.cli.convert import convert
from services.cli.datasets import datasets
from services.cli.demo.command import demo
from services.cli.devices import devices
from services.cli.evaluate import compare, evaluate
from services.cli.events import events
from services.cli.failures import explain
from services.cli.gc import gc
from services.cli.groups import groups
from services.cli.import_evaluation import import_evaluation
from services.cli.info import info, whoami
from services.cli.models import models
from services.cli.operations import operations
from services.cli.optimize import optimize, save
from services.cli.options import set_options
from services.cli.output import error
from services.cli.profile import profile
from services.cli.projects import projects
from services.cli.quantize import quantize
from services.cli.releases import check_compatibility, promote, releases, rollback
from services.cli.tasks import tasks
from services.cli.templates import templates
from services.cli.tokens import tokens
from services.cli.top import top
from services.cli.usage import usage
from services.cli.verify import verify

COMMANDS: dict[str, Callable[..., None]] = {
    "up": up.up,
    "status": status.status,
    "logs": logs.logs,
    "backup": backup,
    "restore": restore,
    "gc": gc,
    "usage": usage,
    "convert": convert,
    "quantize": quantize,
    "optimize": optimize,
    "save": save,
    "profile": profile,
    "evaluate": evaluate,
    "compare": compare,
    "import-evaluation": import_evaluation,
    "approve": approve,
    "approvals": approvals,
    "promote": promote,
    "rollback": rollback,
    "releases": releases,
    "check-compatibility": check_compatibility,
    "verify": verify,
    "events": events,
    "top": top,
    "audit": audit,
    "info": info,
    "whoami": whoami,
    "demo": demo,
}
GROUPS: dict[str, typer.Typer] = {
    "models": models,
    "aliases": aliases,
    "architectures": architectures,
    "templates": templates,
    "channels": channels,
    "datasets": datasets,
    "tasks": tasks,
    "devices": devices,
    "groups": groups,
    "operations": operations,
    "projects": projects,
    "tokens": tokens,
}

app = typer.Typer(
    name="lathe",
    help="Turn trained models into verified packages for the hardware they will run on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lathe {metadata.version('lathe')}")
        raise typer.Exit


@app.callback()
def options(
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE=HOST:PORT",
            help="Address of a service; else $LATHE_<SERVICE>_ADDRESS, the running stack, or the usual port.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the stack's state; else $LATHE_DATA_DIR, or .lathe.")
    ] = None,
    project: Annotated[
        str,
        typer.Option(
            metavar="PROJECT",
            help="The project of what is created, and the only one that lists show; else $LATHE_PROJECT.",
        ),
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn trained models into verified packages for the hardware they will run on."""
    set_options(data_dir, address or [], project)


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def run() -> None:
    """Run the command line and exit; an expected failure is a sentence and an exit code, without a traceback."""
    try:
        app()
    except (Exception, KeyboardInterrupt) as exception:
        failure = explain(exception)
        if failure is None:
            raise
        error(failure.sentence, failure.details)
        sys.exit(failure.code)


if __name__ == "__main__":
    run()
