"""`lathe convert`: convert a model version into a package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.arguments import TensorInformation, TensorInformationFile, duration, tensor_information_of
from services.cli.client import connect
from services.cli.groups import create_group, finish_group
from services.cli.names import model_name, parse_labels, parse_pairs, template_name, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output
from services.cli.templates import OverridesFile, Set
from services.cli.waiting import Priority, SkipCache, Timeout, Wait, finish


def convert(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="MODEL/NUMBER...", help="The versions, such as 'digits/3' or 'digits@best'."),
    ],
    template: Annotated[
        str,
        typer.Option(
            "--template",
            "-t",
            help="Template of the conversion; see `lathe templates list`. A package's own if not given.",
        ),
    ] = "",
    set_: Set = None,
    overrides_file: OverridesFile = None,
    runtime_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of the runtime; `lathe devices get` lists them."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the task, or of the group; the model's name and the time if not given.")
    ] = "",
    label: NewLabels = None,
    output_model: Annotated[str, typer.Option(help="Model for the package; the source's if not given.")] = "",
    samples: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="NPZ of samples for parity, with arrays named like the inputs; their shapes are used."
        ),
    ] = None,
    tensor_information: TensorInformation = "",
    tensor_information_file: TensorInformationFile = None,
    waive: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPONENT=WHY", help="Accept a parity verdict of WARN or FAIL."),
    ] = None,
    timeout: Timeout = 0,
    memory: Annotated[int, typer.Option(min=0, help="Memory limit of the engines in MiB; the device's if 0.")] = 0,
    priority: Priority = 0,
    skip_cache: SkipCache = False,
    wait_for_it: Wait = True,
    output: Output = TABLE,
) -> None:
    """Convert a model version into a verified package for a device; several versions make a group of tasks.

    The exit code is 0 if it succeeded, 10 if it did with a parity verdict of WARN that nobody accepted, 12 if a form
    ran nowhere (UNVERIFIED), 5 if it failed, 6 if it was cancelled.
    """
    from lathe.converter.v1.conversion_service_pb2 import (
        ConversionSpec,
        ConversionTask,
        CreateConversionTaskRequest,
    )

    from services.cli.documents import overrides
    from services.cli.transfers import upload_files

    names = [version_name(version) for version in versions]
    spec = ConversionSpec(
        template=template_name(template) if template else "",
        overrides=overrides(set_ or [], overrides_file, parse_pairs(runtime_option or [], "--runtime-option")),
        output_model=model_name(output_model) if output_model else "",
        parity_waivers=parse_pairs(waive or [], "--waive"),
        tensor_information=tensor_information_of(tensor_information, tensor_information_file),
        timeout=duration(timeout),
        memory_limit_bytes=memory << 20,
    )
    with connect() as connection:
        if samples is not None:
            spec.samples.CopyFrom(upload_files(connection, [samples])[0].digest)
        labels = parse_labels(label or [])
        if len(names) > 1:
            made = {"display_name": name or "convert", "labels": labels, "priority": priority}
            group = create_group(connection, "conversion", names, spec, skip_cache=skip_cache, **made)
            finish_group(connection, group, output, wait_for_it=wait_for_it)
        spec.model_version = names[0]
        task = connection.conversions.CreateConversionTask(
            CreateConversionTaskRequest(
                task=ConversionTask(display_name=name, labels=labels, spec=spec, priority=priority),
                skip_cache=skip_cache,
            )
        )
        finish(connection, task, output, wait_for_it=wait_for_it)
