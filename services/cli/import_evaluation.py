"""`lathe import-evaluation`: record an evaluation that was made elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import dataset_name, parse_labels, parse_pairs, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output, OutputFormat, show_message
from services.cli.results import show_result
from services.cli.views import TASKS

if TYPE_CHECKING:
    from lathe.evaluator.v1.evaluation_service_pb2 import Metric


def import_evaluation(
    version: Annotated[str, typer.Argument(metavar="MODEL/NUMBER", help="Such as 'digits/3' or 'digits@best'.")],
    metric: Annotated[
        list[str], typer.Option(metavar="NAME[@SLICE]=VALUE", help="A figure: 'top1=0.97', 'top1@scene=night=0.9'.")
    ],
    source: Annotated[str, typer.Option(help="Where and how it was made, in words.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Dataset that it is on, if Lathe has it.")] = "",
    hardware: Annotated[str, typer.Option(help="Processor or accelerator that it ran on.")] = "",
    software: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VERSION", help="A program that took part.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Number of samples.")] = 0,
    report: Annotated[Path | None, typer.Option(help="A file to keep with it, such as its report.")] = None,
    name: Annotated[str, typer.Option(help="Name of the evaluation.")] = "",
    label: NewLabels = None,
    output: Output = TABLE,
) -> None:
    """Record an evaluation that was made elsewhere. Channels count it if they have --accept-imported."""
    from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationImport, EvaluationResult, ImportEvaluationRequest
    from lathe.type.v1.measurement_pb2 import Software

    from services.cli.transfers import upload_files

    programs = parse_pairs(software or [], "--software")
    request = ImportEvaluationRequest(
        model_version=version_name(version),
        dataset=dataset_name(dataset) if dataset else "",
        display_name=name,
        labels=parse_labels(label or []),
        result=EvaluationResult(
            metrics=(metrics := [parse_metric(text) for text in metric]),
            main_metric=metrics[0].name,
            samples=samples,
            hardware=hardware,
            software=[Software(name=each, version=number) for each, number in programs.items()],
        ),
        origin=EvaluationImport(source=source),
    )
    with connect() as connection:
        if report is not None:
            request.origin.report.CopyFrom(upload_files(connection, [report])[0])
        made = connection.evaluations.ImportEvaluation(request)
    show_message(made, TASKS, output)
    if output is OutputFormat.TABLE:
        show_result(made)


def parse_metric(text: str) -> Metric:
    """Return the figure of a text such as `top1=0.97` or `top1@scene=night=0.9`.

    Raises:
        CliError: It is not a figure.
    """
    from lathe.evaluator.v1.evaluation_service_pb2 import Metric

    named, equals, value = text.rpartition("=")
    metric, _, part = named.partition("@")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not metric.strip() or not math.isfinite(number):
        raise CliError(
            f"--metric {text!r} must be NAME=VALUE or NAME@SLICE=VALUE, such as 'top1=0.97'.", ExitCode.USAGE
        )
    return Metric(name=metric.strip(), slice=part.strip(), value=number)
