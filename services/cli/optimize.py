"""`lathe optimize` and `lathe save`: find the fastest form of a model that computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from services.cli.arguments import TensorInformation, TensorInformationFile, duration, tensor_information_of
from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.groups import create_group, finish_group
from services.cli.names import dataset_name, model_name, parse_labels, template_name, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output, OutputFormat, message_json, note, print_json
from services.cli.quantize import Step, choice
from services.cli.views import short
from services.cli.waiting import (
    Priority,
    Report,
    RequireGain,
    SkipCache,
    Wait,
    finish,
    refuse_early_gain,
    refuse_early_report,
    save_report,
)

if TYPE_CHECKING:
    from lathe.optimizer.v1.optimization_service_pb2 import OptimizationSpec
    from lathe.type.v1.digest_pb2 import Digest
    from lathe_client.connection import Connection

DEFAULT_DEVICE = "cpu-x86-64"

Versions = Annotated[list[str], typer.Argument(metavar="MODEL/NUMBER...", help="The versions, such as 'digits/1'.")]
OutputModel = Annotated[str, typer.Option(help="Model for the saved result; the version's if not given.")]


def optimize(
    versions: Versions,
    device: Annotated[str, typer.Option(help="Device of the catalog.")] = DEFAULT_DEVICE,
    goal: Annotated[str, typer.Option(help="Lowest precision allowed: FP32 (lossless), FP16, BF16 or INT8.")] = "FP32",
    objective: Annotated[str, typer.Option(help="What to optimize: latency, throughput or size.")] = "latency",
    budget: Annotated[int, typer.Option(min=0, help="Seconds for the search; 600 if 0.")] = 0,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Dataset to measure accuracy and calibrate on.")] = "",
    max_degradation: Annotated[
        float, typer.Option(min=0, max=100, help="Largest loss of the metric in percentage points.")
    ] = 0,
    metric: Annotated[str, typer.Option(help="Metric of the loss, for example top1 or map.")] = "",
    step: Step = None,
    calibration: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Calibrate on this NPZ instead of the dataset.")
    ] = None,
    test_data: Annotated[
        Path | None, typer.Option(dir_okay=False, help="NPZ to measure parity and latency on.")
    ] = None,
    tensor_information: TensorInformation = "",
    tensor_information_file: TensorInformationFile = None,
    error_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Largest relative error of a lossless form; the device's if 0.")
    ] = 0,
    max_batch: Annotated[int, typer.Option(min=0, help="Largest batch; the template's if 0.")] = 0,
    quantization_aware: Annotated[
        bool, typer.Option("--quantization-aware", help="Keep the quantization that the source was trained with.")
    ] = False,
    engine_version: Annotated[str, typer.Option(help="Version of the engines; the newest if not given.")] = "",
    template: Annotated[
        str, typer.Option("--template", "-t", help="Template for reading a version that is not a package.")
    ] = "",
    output_model: OutputModel = "",
    output_location: Annotated[
        str, typer.Option(help="Folder of the bucket for the saved result; a new one if not given.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random choices.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the task, or of the group.")] = "",
    label: NewLabels = None,
    timeout: Annotated[
        int, typer.Option(min=0, help="Time limit of an attempt in seconds; half an hour more than the budget if 0.")
    ] = 0,
    report: Report = None,
    require_gain: RequireGain = False,
    save_it: Annotated[bool, typer.Option("--save", help="Save the result as a version when it succeeds.")] = False,
    priority: Priority = 0,
    skip_cache: SkipCache = False,
    wait_for_it: Wait = True,
    output: Output = TABLE,
) -> None:
    """Search for the fastest form of a version that computes the same; several versions make a group.

    Nothing is registered before it is saved, with --save or `lathe save`.
    The exit code is 0 if all succeeded, 5 if one failed, 6 if it was cancelled; for one version, 10 if it has a parity
    verdict of WARN that was not accepted. With --require-gain it is 11 if one has no gain.
    """
    from lathe.optimizer.v1.optimization_service_pb2 import Objective, OptimizationSpec
    from lathe.type.v1.precision_pb2 import Precision

    from services.cli.arguments import parse_steps
    from services.cli.verdicts import has_no_gain

    _check_combination(versions, report, save_it=save_it, wait_for_it=wait_for_it)
    refuse_early_gain(require_gain=require_gain, wait_for_it=wait_for_it)
    spec = OptimizationSpec(
        device=device,
        precision_goal=choice("--goal", goal.upper(), Precision),
        objective=choice("--objective", objective.upper(), Objective),
        search_budget=duration(budget),
        tensor_information=tensor_information_of(tensor_information, tensor_information_file),
        error_threshold=error_threshold,
        max_degradation=max_degradation,
        metric=metric,
        preprocessing=parse_steps(step or []),
        dataset=dataset_name(dataset) if dataset else "",
        quantization_aware=quantization_aware,
        engine_version=engine_version,
        template=template_name(template) if template else "",
        output_model=model_name(output_model) if output_model else "",
        output_location=output_location,
        max_batch=max_batch,
        seed=seed,
        timeout=duration(timeout),
    )
    labels = parse_labels(label or [])
    names = [version_name(version) for version in versions]
    with connect() as connection:
        for field, file in (("calibration_samples", calibration), ("test_data", test_data)):
            if file is not None:
                getattr(spec, field).CopyFrom(_uploaded(connection, file))
        if len(names) > 1:
            made = {"display_name": name or "optimize", "labels": labels, "priority": priority}
            group = create_group(connection, "optimization", names, spec, skip_cache=skip_cache, **made)
            finish_group(connection, group, output, wait_for_it=wait_for_it, require_gain=require_gain)
        spec.model_version = names[0]
        task = _create_task(connection, spec, name, labels, priority=priority, skip_cache=skip_cache)

        def then(task: Any) -> None:
            if report is not None:
                save_report(connection, task.result.html_report, report)
            if require_gain and has_no_gain(task.result):
                note(f"Nothing is saved, because there is no gain. To save it anyway: lathe save {task.name}")
            elif save_it:
                _tell_saved(_save(connection, task.name, ""))
            else:
                note(f"Nothing is registered yet: lathe save {task.name}")

        finish(connection, task, output, wait_for_it=wait_for_it, require_gain=require_gain, on_success=then)


def save(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Such as 'optimizationTasks/0198…', or its id.")],
    model: Annotated[str, typer.Option(help="Model for the version; the task's if not given.")] = "",
    output: Output = TABLE,
) -> None:
    """Save the result of an optimization as a version, and store it in the bucket next to a copy of its source."""
    name = task if "/" in task else f"optimizationTasks/{task}"
    with connect() as connection:
        saved = _save(connection, name, model_name(model) if model else "")
    if output is OutputFormat.JSON:
        print_json(message_json(saved))
    else:
        _tell_saved(saved)


def _save(connection: Connection, name: str, model: str) -> Any:
    from lathe.optimizer.v1.optimization_service_pb2 import SaveModelRequest, WatchModelSaveRequest
    from lathe_client.calls import repeated

    from services.cli.progress import finished

    begun = repeated(connection.optimizations.SaveModel, SaveModelRequest(name=name, model=model))
    return finished(connection.optimizations.WatchModelSave, WatchModelSaveRequest(name=begun.name), "saving")


def _tell_saved(saved: Any) -> None:
    task = saved.name.partition("/saves/")[0]
    note(f"{task} is saved as {short(saved.model_version)}.", style="green")
    note(f"The files are in {saved.saved_location}, next to a copy of the source, after which the folder is named.")


def _create_task(
    connection: Connection,
    spec: OptimizationSpec,
    name: str,
    labels: dict[str, str],
    *,
    priority: int,
    skip_cache: bool,
) -> Any:
    from lathe.optimizer.v1.optimization_service_pb2 import CreateOptimizationTaskRequest, OptimizationTask

    task = OptimizationTask(display_name=name, labels=labels, spec=spec, priority=priority)
    request = CreateOptimizationTaskRequest(task=task, skip_cache=skip_cache, request_id=str(uuid4()))
    from lathe_client.calls import repeated

    return repeated(connection.optimizations.CreateOptimizationTask, request)


def _check_combination(versions: list[str], report: Path | None, *, save_it: bool, wait_for_it: bool) -> None:
    refuse_early_report(report, wait_for_it=wait_for_it)
    if save_it and not wait_for_it:
        raise CliError("--save needs the task to end, so it cannot be combined with --no-wait.", ExitCode.USAGE)
    if len(versions) > 1 and (save_it or report is not None):
        raise CliError(
            "--save and --report take a single version. For several, use `lathe save` afterwards.",
            ExitCode.USAGE,
        )


def _uploaded(connection: Connection, file: Path) -> Digest:
    from services.cli.transfers import upload_files

    return upload_files(connection, [file])[0].digest
