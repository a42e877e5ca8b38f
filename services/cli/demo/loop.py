"""The second half of the demo, the same for every model: data, quantization, evaluation, comparison, release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.arguments import duration
from services.cli.demo.steps import succeeded
from services.cli.demo.story import heading
from services.cli.failures import CliError
from services.cli.output import note

if TYPE_CHECKING:
    from lathe_client.connection import Connection

CHANNEL = "production"


@dataclass(frozen=True)
class Course:
    """A model of the demo to quantize, evaluate and release.

    Attributes:
        title: Name of the part of the demo.
        step: Number of its first heading.
        package: The floating-point package.
        calibration: Dataset for calibration and for the accuracy bound.
        dataset: Other data, to evaluate on.
        metric: Display name of the main metric.
        slice: Attribute of the items to slice by.
        item: Noun for an item of the data.
        least: Least main metric for the release.
    """

    title: str
    step: int
    package: str
    calibration: str
    dataset: str
    metric: str
    slice: str
    item: str
    least: float


def take(connection: Connection, course: Course, work: Path) -> tuple[Any, Any]:
    """Quantize to int8, evaluate before and after, compare and release; return both evaluations.

    The reports are written to `work`, named after the part of the demo.
    """
    reports = {form: work / f"{course.title.lower()}-{form}.html" for form in ("float", "int8", "comparison")}
    heading(f"{course.title} {course.step}. Quantize to int8; lose at most half a point of {course.metric}")
    bound = Bound(course.calibration, points=0.5)
    quantized = quantize(connection, course.package, course.calibration, bound).result.model_version
    heading(
        f"{course.title} {course.step + 1}. Evaluate before and after, by {course.slice}, and compare {course.item} by "
        f"{course.item}"
    )
    before = evaluate(connection, course.package, course.dataset, reports["float"], [course.slice])
    after = evaluate(connection, quantized, course.dataset, reports["int8"], [course.slice])
    compare(connection, [before, after], reports["comparison"])
    heading(f"{course.title} {course.step + 2}. Release it if it meets the channel's rules")
    release(connection, after, course.least)
    return before, after


def create_dataset(connection: Connection, name: str, archive: Path, template: str, key: str) -> str:
    """Import an archive, its `key` mapped to the task `digit` of the template; no mapping if the key is empty.

    The demo's data is the same every time, so a dataset of an earlier demo is reused.

    Returns:
        The dataset's name.

    Raises:
        CliError: The import failed.
    """
    import grpc
    from lathe.registry.v1.dataset_service_pb2 import (
        ClassMapping,
        ClassMappingEntry,
        CreateDatasetRequest,
        Dataset,
    )

    from services.cli.importing import wait
    from services.cli.transfers import upload_files
    from services.cli.views import enum_name

    dataset = Dataset(display_name=name, files=upload_files(connection, [archive]))
    if key:
        entries = [ClassMappingEntry(task="digit", key=key)]
        dataset.mapping.CopyFrom(ClassMapping(template=template, entries=entries))
    try:
        made = connection.datasets.CreateDataset(CreateDatasetRequest(dataset=dataset, dataset_id=name))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
        return f"datasets/{name}"
    made = wait(connection, made)
    if enum_name(made, "state") != "READY":
        raise CliError(f"{made.name} is {enum_name(made, 'state')}: {made.failure.message}")
    note(f"{made.name}: {made.item_count} items")
    return str(made.name)


@dataclass(frozen=True)
class Bound:
    """The accuracy bound of a quantization.

    Attributes:
        dataset: Dataset for measuring the loss; not the evaluation's, which would make the figure too good.
        points: Largest loss of the main metric in percentage points.
    """

    dataset: str
    points: float


def quantize(connection: Connection, version: str, calibration: str, bound: Bound | None = None, **fields: Any) -> Any:
    """Quantize a version, wait, and return the task; CliError if it did not succeed.

    Args:
        connection: To the services.
        version: The version.
        calibration: Dataset to calibrate on; none if empty.
        bound: Its accuracy bound.
        fields: Further fields of the specification.
    """
    from lathe.quantizer.v1.quantization_service_pb2 import (
        AccuracyBound,
        CalibrationData,
        CreateQuantizationTaskRequest,
        QuantizationSpec,
        QuantizationTask,
    )

    spec = QuantizationSpec(model_version=version, **fields)
    if calibration:
        spec.calibration_data.CopyFrom(CalibrationData(dataset=calibration))
    if bound is not None:
        spec.accuracy.CopyFrom(AccuracyBound(dataset=bound.dataset, max_degradation=bound.points))
    request = CreateQuantizationTaskRequest(task=QuantizationTask(spec=spec))
    return succeeded(connection, connection.quantizations.CreateQuantizationTask(request).name)


def evaluate(connection: Connection, version: str, dataset: str, report: Path, slices: Sequence[str] = ()) -> Any:
    """Evaluate a package, save its report, and return the task; CliError if it did not succeed."""
    from lathe.evaluator.v1.evaluation_service_pb2 import (
        CreateEvaluationTaskRequest,
        EvaluationSpec,
        EvaluationTask,
    )

    from services.cli.waiting import save_report

    spec = EvaluationSpec(model_version=version, dataset=dataset, slices=slices)
    request = CreateEvaluationTaskRequest(task=EvaluationTask(spec=spec))
    task = succeeded(connection, connection.evaluations.CreateEvaluationTask(request).name)
    save_report(connection, task.result.html_report, report)
    return task


def optimize(connection: Connection, version: str, template: str, dataset: str, seconds: int, report: Path) -> Any:
    """Search for a version's fastest form, save its report, and return the task; CliError if it did not succeed.

    Args:
        connection: To the services.
        version: The version.
        template: Template for reading it.
        dataset: Dataset for the accuracy of each form.
        seconds: Time for the search.
        report: File of the report.
    """
    from lathe.optimizer.v1.optimization_service_pb2 import (
        CreateOptimizationTaskRequest,
        OptimizationSpec,
        OptimizationTask,
    )

    from services.cli.waiting import save_report

    spec = OptimizationSpec(
        model_version=version,
        template=template,
        device="cpu-x86-64",
        dataset=dataset,
        search_budget=duration(seconds),
    )
    request = CreateOptimizationTaskRequest(task=OptimizationTask(spec=spec))
    task = succeeded(connection, connection.optimizations.CreateOptimizationTask(request).name)
    save_report(connection, task.result.html_report, report)
    return task


def compare(connection: Connection, evaluations: Sequence[Any], report: Path) -> Any:
    """Compare evaluations, the reference first, save the report, and return the comparison."""
    from lathe.evaluator.v1.evaluation_service_pb2 import (
        CreateEvaluationComparisonRequest,
        EvaluationComparison,
        WatchEvaluationComparisonRequest,
    )

    from services.cli.progress import finished
    from services.cli.results import show_comparison
    from services.cli.waiting import save_report

    names = [task.name for task in evaluations]
    request = CreateEvaluationComparisonRequest(evaluation_comparison=EvaluationComparison(tasks=names))
    watch = WatchEvaluationComparisonRequest(name=connection.evaluations.CreateEvaluationComparison(request).name)
    found = finished(connection.evaluations.WatchEvaluationComparison, watch, "comparing")
    show_comparison(found, 10)
    save_report(connection, found.html_report, report)
    return found


def release(connection: Connection, evaluation: Any, least: float) -> Any:
    """Promote the evaluated version in a channel whose rule is a main metric of at least `least`."""
    import grpc
    from lathe.registry.v1.release_service_pb2 import (
        Channel,
        CreateChannelRequest,
        MetricBound,
        PromoteModelVersionRequest,
        PromotionRules,
    )

    version = evaluation.spec.model_version
    model = version.partition("/versions/")[0]
    bound = MetricBound(metric=evaluation.result.main_metric, min=least)
    rules = PromotionRules(require_evaluation=True, dataset=evaluation.spec.dataset, bounds=[bound])
    channel = Channel(display_name=CHANNEL.capitalize(), rules=rules)
    try:
        connection.releases.CreateChannel(CreateChannelRequest(parent=model, channel=channel, channel_id=CHANNEL))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
    made = connection.releases.PromoteModelVersion(
        PromoteModelVersionRequest(
            name=f"{model}/channels/{CHANNEL}", model_version=version, evaluation_task=evaluation.name, note="demo"
        )
    )
    for check in made.checks:
        note(f"kept: {check}")
    note(f"{made.name} serves {version} from {made.repository_uri}", style="green")
    return made


def main_figure(evaluation: Any) -> float:
    """Return the main metric of an evaluation over all data."""
    result = evaluation.result
    return float(next(each.value for each in result.metrics if each.name == result.main_metric and not each.slice))
