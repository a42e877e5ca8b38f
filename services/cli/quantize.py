"""`lathe quantize`: quantize a version, with a measured accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.arguments import TensorInformation, TensorInformationFile, duration, tensor_information_of
from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.groups import create_group, finish_group
from services.cli.names import dataset_name, model_name, parse_labels, template_name, version_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output
from services.cli.waiting import (
    Priority,
    Report,
    RequireGain,
    SkipCache,
    Timeout,
    Wait,
    finish,
    refuse_early_gain,
    refuse_early_report,
    save_report,
)

if TYPE_CHECKING:
    from lathe.quantizer.v1.quantization_service_pb2 import AccuracyBound, CalibrationData
    from lathe_client.connection import Connection

METHODS = {"0": "LEGACY_PERCENTILE", "1": "ENTROPY", "2": "ENTROPY_2", "3": "MINMAX"}
"""TensorRT's numbers of calibrators."""

Dataset = Annotated[str, typer.Option("--dataset", "-d", help="Calibrate on this dataset.")]
Step = Annotated[
    list[str] | None,
    typer.Option(help="Preprocessing, in this order: resize=HxW, centercrop, equal_resize, cvtRGB, transpose=2,0,1."),
]


def quantize(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="MODEL/NUMBER...", help="The versions, such as 'digits/2' or 'digits@best'."),
    ],
    dataset: Dataset = "",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Calibrate on this instead: a folder or an archive of images, an NPZ, or a folder with INPUT.npy "
            "for each input."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Number of calibration samples; 128 if 0.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Samples per calibration batch; 1 if 0.")] = 0,
    step: Step = None,
    method: Annotated[
        str,
        typer.Option(
            help="Calibration: 0 percentile, 1 entropy, 2 entropy 2, 3 min-max. If not given, 2, and then 3 if "
            "no form is accurate and faster."
        ),
    ] = "",
    precision: Annotated[str, typer.Option(help="INT8, INT4, FP16 or BF16.")] = "INT8",
    scheme: Annotated[
        str, typer.Option(help="static, dynamic or weight-only; the precision's default if not given.")
    ] = "",
    runtime: Annotated[str, typer.Option(help="Runtime to serve it; the version's if not given.")] = "",
    device: Annotated[str, typer.Option(help="Device of the catalog; the version's if not given.")] = "",
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="Asymmetric ranges of activations.")] = False,
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One scale per weight tensor instead of per channel.")
    ] = False,
    exclude: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Keep this node in float.")] = None,
    max_degradation: Annotated[
        float | None, typer.Option(min=0, max=100, help="Largest loss of the metric in percentage points.")
    ] = None,
    accuracy_dataset: Annotated[
        str, typer.Option(help="Dataset to measure the loss on; the calibration's if not given.")
    ] = "",
    metric: Annotated[str, typer.Option(help="Metric of the loss, for example top1 or map.")] = "",
    template: Annotated[
        str, typer.Option("--template", "-t", help="Template for reading a version that is not a package.")
    ] = "",
    tensor_information: TensorInformation = "",
    tensor_information_file: TensorInformationFile = None,
    output_model: Annotated[str, typer.Option(help="Model for the result; the version's if not given.")] = "",
    name: Annotated[str, typer.Option(help="Name of the task, or of the group.")] = "",
    label: NewLabels = None,
    timeout: Timeout = 0,
    report: Report = None,
    require_gain: RequireGain = False,
    priority: Priority = 0,
    skip_cache: SkipCache = False,
    wait_for_it: Wait = True,
    output: Output = TABLE,
) -> None:
    """Quantize a version, and measure the accuracy that it loses and the speed that it gains.

    Several versions make a group of tasks.

    The exit code is 0 if it succeeded, 10 if it has a parity verdict of WARN that was not accepted, 11 if it has no
    gain and --require-gain is given, 5 if it failed, 6 if it was cancelled.
    """
    from lathe.quantizer.v1.quantization_service_pb2 import (
        GRANULARITY_PER_TENSOR,
        CalibrationMethod,
        CreateQuantizationTaskRequest,
        QuantizationScheme,
        QuantizationSpec,
        QuantizationTask,
    )
    from lathe.type.v1.precision_pb2 import Precision

    refuse_early_report(report, wait_for_it=wait_for_it)
    refuse_early_gain(require_gain=require_gain, wait_for_it=wait_for_it)
    if report is not None and len(versions) > 1:
        raise CliError("--report takes a single version.", ExitCode.USAGE)
    names = [version_name(version) for version in versions]
    spec = QuantizationSpec(
        device=device,
        runtime=runtime,
        precision=choice("--precision", precision.upper(), Precision),
        asymmetric=asymmetric,
        excluded_nodes=exclude or [],
        tensor_information=tensor_information_of(tensor_information, tensor_information_file),
        template=template_name(template) if template else "",
        output_model=model_name(output_model) if output_model else "",
        timeout=duration(timeout),
    )
    if method:
        spec.calibration_method = choice("--method", METHODS.get(method, method.upper()), CalibrationMethod)
    if scheme:
        spec.scheme = choice("--scheme", scheme.upper().replace("-", "_"), QuantizationScheme)
    if per_tensor:
        spec.granularity = GRANULARITY_PER_TENSOR
    bound = _bound(max_degradation, accuracy_dataset, dataset, metric)
    if bound is not None:
        spec.accuracy.CopyFrom(bound)
    with connect() as connection:
        data = _calibration(connection, dataset, calibration, step or [])
        if data is not None:
            data.samples, data.batch_size = samples, batch
            spec.calibration_data.CopyFrom(data)
        labels = parse_labels(label or [])
        if len(names) > 1:
            made = {"display_name": name or "quantize", "labels": labels, "priority": priority}
            group = create_group(connection, "quantization", names, spec, skip_cache=skip_cache, **made)
            finish_group(connection, group, output, wait_for_it=wait_for_it, require_gain=require_gain)
        spec.model_version = names[0]
        task = QuantizationTask(display_name=name, labels=labels, spec=spec, priority=priority)
        created = connection.quantizations.CreateQuantizationTask(
            CreateQuantizationTaskRequest(task=task, skip_cache=skip_cache)
        )
        finish(
            connection,
            created,
            output,
            wait_for_it=wait_for_it,
            require_gain=require_gain,
            on_success=lambda task: save_report(connection, task.result.html_report, report) if report else None,
        )


def choice(option: str, word: str, enum: Any) -> Any:
    """Return the value of an enum by its name.

    Raises:
        CliError: It does not exist; the message lists the names.
    """
    from services.platform.words import number, words

    if word not in words(enum):
        raise CliError(f"{option} {word!r} is not one of {', '.join(words(enum))}.", ExitCode.USAGE)
    return number(enum, word)


def _calibration(connection: Connection, dataset: str, file: Path | None, steps: list[str]) -> CalibrationData | None:
    from lathe.quantizer.v1.quantization_service_pb2 import CalibrationData

    from services.cli.arguments import parse_steps
    from services.cli.dataset_inputs import upload_paths

    if dataset and file:
        raise CliError("Give a calibration dataset or a calibration file, not both.", ExitCode.USAGE)
    preprocessing = parse_steps(steps)
    if dataset:
        return CalibrationData(dataset=dataset_name(dataset), preprocessing=preprocessing)
    if file:
        return CalibrationData(artifact=upload_paths(connection, [file])[0].digest, preprocessing=preprocessing)
    return None


def _bound(max_degradation: float | None, own_dataset: str, dataset: str, metric: str) -> AccuracyBound | None:
    from lathe.quantizer.v1.quantization_service_pb2 import AccuracyBound

    if max_degradation is None:
        if own_dataset or metric:
            raise CliError(
                "--accuracy-dataset and --metric need --max-degradation, the largest loss.",
                ExitCode.USAGE,
            )
        return None
    if not (own_dataset or dataset):
        raise CliError("--max-degradation needs --accuracy-dataset to measure the loss on.", ExitCode.USAGE)
    return AccuracyBound(max_degradation=max_degradation, dataset=dataset_name(own_dataset or dataset), metric=metric)
