"""`lathe profile`: how fast a model is, what it needs, and where its time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.arguments import TensorInformation, TensorInformationFile, duration, tensor_information_of
from services.cli.client import connect
from services.cli.names import parse_labels, template_name, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output
from services.cli.waiting import Priority, Report, SkipCache, Timeout, Wait, finish, refuse_early_report, save_report


def profile(
    version: Annotated[str, typer.Argument(metavar="MODEL/NUMBER", help="A package or a source, such as 'digits/1'.")],
    device: Annotated[
        str, typer.Option(help="Device of the catalog; needed for a source, a package has its own.")
    ] = "",
    runtime: Annotated[
        list[str] | None, typer.Option(help="Runtime to build a source for; all that take it if not given.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Samples in a call; the model's usual batch if not given.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads; all that the worker has if not given.")
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option(min=1, help="Calls computed at the same time, for a source; 1 if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds of turns; as many as fit into 5 seconds if 0.")] = 0,
    tensor_information: TensorInformation = "",
    tensor_information_file: TensorInformationFile = None,
    test_data: Annotated[Path | None, typer.Option(dir_okay=False, help="NPZ to call the model with.")] = None,
    template: Annotated[str, typer.Option("--template", "-t", help="Template for reading a source.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of generated inputs.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the task.")] = "",
    label: NewLabels = None,
    timeout: Timeout = 0,
    report: Report = None,
    priority: Priority = 0,
    skip_cache: SkipCache = False,
    wait_for_it: Wait = True,
    output: Output = TABLE,
) -> None:
    """Measure a version without changing it: latency, throughput, memory, load time and the layers of each runtime.

    Options that may be repeated are combined: --batch 1 --batch 8 --threads 1 --threads 4 makes four measurements.
    The exit code is 0 if it succeeded, 5 if it failed, 6 if it was cancelled.
    """
    from lathe.optimizer.v1.profile_service_pb2 import CreateProfileTaskRequest, ProfileSpec, ProfileTask

    refuse_early_report(report, wait_for_it=wait_for_it)
    spec = ProfileSpec(
        model_version=version_name(version),
        device=device,
        runtimes=runtime or [],
        batch_sizes=batch or [],
        threads=threads or [],
        streams=streams or [],
        rounds=rounds,
        tensor_information=tensor_information_of(tensor_information, tensor_information_file),
        template=template_name(template) if template else "",
        seed=seed,
        timeout=duration(timeout),
    )
    with connect() as connection:
        if test_data is not None:
            from services.cli.transfers import upload_files

            spec.test_data.CopyFrom(upload_files(connection, [test_data])[0].digest)
        task = ProfileTask(display_name=name, labels=parse_labels(label or []), spec=spec, priority=priority)

        def then(done: Any) -> None:
            if report is not None:
                save_report(connection, done.result.html_report, report)

        created = connection.profiles.CreateProfileTask(CreateProfileTaskRequest(task=task, skip_cache=skip_cache))
        finish(connection, created, output, wait_for_it=wait_for_it, on_success=then)
