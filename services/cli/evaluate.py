"""`lathe evaluate` and `lathe compare`: evaluate a version, and compare evaluations sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from services.cli.arguments import duration
from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.groups import create_group, finish_group
from services.cli.names import dataset_name, parse_labels, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output, OutputFormat, print_json
from services.cli.quantize import Step, choice
from services.cli.waiting import Priority, Report, SkipCache, Timeout, Wait, finish, refuse_early_report, save_report

if TYPE_CHECKING:
    from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationSpec
    from lathe_client.connection import Connection

SHOWN_DELTAS = 30


def evaluate(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="MODEL/NUMBER...", help="The packages, such as 'digits/2' or 'digits@best'."),
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Evaluate on this dataset.")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Evaluate on a folder or an archive of images instead of a dataset.")
    ] = None,
    batch: Annotated[int, typer.Option(min=0, help="Samples per call; 1 if 0.")] = 0,
    loops: Annotated[int, typer.Option(min=0, help="Number of passes over the data for timing.")] = 0,
    iou: Annotated[list[float] | None, typer.Option(help="IoU threshold; COCO's range if not given.")] = None,
    slice_by: Annotated[list[str] | None, typer.Option("--slice", help="Attribute to slice by.")] = None,
    class_task: Annotated[list[str] | None, typer.Option(help="Classification task to evaluate; all if none.")] = None,
    precision: Annotated[str, typer.Option(help="Precision, which must be the version's.")] = "",
    method: Annotated[str, typer.Option(help="Postprocess method; the package's if not given.")] = "",
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Argument of the method, such as 'score_threshold=0.3'."),
    ] = None,
    step: Step = None,
    samples: Annotated[int, typer.Option(min=0, help="Number of samples; all if 0.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the task, or of the group.")] = "",
    label: NewLabels = None,
    timeout: Timeout = 0,
    report: Report = None,
    priority: Priority = 0,
    skip_cache: SkipCache = False,
    wait_for_it: Wait = True,
    output: Output = TABLE,
) -> None:
    """Evaluate a package on a dataset: metrics by slice with confidence intervals, times and a report.

    Several packages make a group of tasks.

    The exit code is 0 if it succeeded, 5 if it failed, 6 if it was cancelled.
    """
    from lathe.evaluator.v1.evaluation_service_pb2 import (
        CreateEvaluationTaskRequest,
        EvaluationSpec,
        EvaluationTask,
    )
    from lathe.type.v1.precision_pb2 import Precision

    from services.cli.arguments import parse_args, parse_steps

    refuse_early_report(report, wait_for_it=wait_for_it)
    if report is not None and len(versions) > 1:
        raise CliError("--report takes a single version.", ExitCode.USAGE)
    names = [version_name(version) for version in versions]
    spec = EvaluationSpec(
        batch_size=batch,
        loops=loops,
        iou_thresholds=iou or [],
        slices=slice_by or [],
        class_tasks=class_task or [],
        preprocessing=parse_steps(step or []),
        method=method,
        args=parse_args(arg or []),
        samples=samples,
        timeout=duration(timeout),
    )
    if precision:
        spec.precision = choice("--precision", precision.upper(), Precision)
    with connect() as connection:
        _set_data(connection, spec, dataset, images)
        labels = parse_labels(label or [])
        if len(names) > 1:
            made = {"display_name": name or "evaluate", "labels": labels, "priority": priority}
            group = create_group(connection, "evaluation", names, spec, skip_cache=skip_cache, **made)
            finish_group(connection, group, output, wait_for_it=wait_for_it)
        spec.model_version = names[0]
        task = EvaluationTask(display_name=name, labels=labels, spec=spec, priority=priority)
        created = connection.evaluations.CreateEvaluationTask(
            CreateEvaluationTaskRequest(task=task, skip_cache=skip_cache)
        )
        finish(
            connection,
            created,
            output,
            wait_for_it=wait_for_it,
            on_success=lambda done: save_report(connection, done.result.html_report, report) if report else None,
        )


def compare(
    evaluations: Annotated[
        list[str], typer.Argument(metavar="EVALUATION...", help="Evaluation tasks, the reference first.")
    ],
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
    output: Output = TABLE,
) -> None:
    """Compare two or more evaluations on one dataset, sample by sample."""
    from lathe.evaluator.v1.evaluation_service_pb2 import (
        CreateEvaluationComparisonRequest,
        EvaluationComparison,
        WatchEvaluationComparisonRequest,
    )
    from lathe_client.calls import repeated

    from services.cli.output import message_json
    from services.cli.progress import finished
    from services.cli.results import show_comparison

    names = [text if "/" in text else f"evaluationTasks/{text}" for text in evaluations]
    with connect() as connection:
        request = CreateEvaluationComparisonRequest(
            evaluation_comparison=EvaluationComparison(tasks=names), request_id=str(uuid4())
        )
        begun = repeated(connection.evaluations.CreateEvaluationComparison, request)
        watch = WatchEvaluationComparisonRequest(name=begun.name)
        found = finished(connection.evaluations.WatchEvaluationComparison, watch, "comparing")
        if report is not None:
            save_report(connection, found.html_report, report)
    if output is OutputFormat.JSON:
        print_json(message_json(found))
    else:
        show_comparison(found, SHOWN_DELTAS)


def _set_data(connection: Connection, spec: EvaluationSpec, dataset: str, images: Path | None) -> None:
    from services.cli.dataset_inputs import upload_paths

    if bool(dataset) == bool(images):
        raise CliError("Give --dataset or --images.", ExitCode.USAGE)
    if images:
        spec.images.CopyFrom(upload_paths(connection, [images])[0].digest)
    else:
        spec.dataset = dataset_name(dataset)
