"""Rules for specifications of optimizations, and their defaults. Pure functions."""

from __future__ import annotations

from lathe.optimizer.v1.optimization_service_pb2 import OBJECTIVE_LATENCY, OptimizationSpec, OptimizationTask
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import Template
from lathe.type.v1.precision_pb2 import PRECISION_FP32, PRECISION_INT8, PRECISION_UNSPECIFIED, Precision
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskState

from engines.optimization.request import DEFAULT_BUDGET_SECONDS
from engines.runtimes.targets import reading_runtime
from engines.spec.devices import Device
from engines.spec.targets import check_engines, check_goal
from engines.spec.template import check_judged
from services.platform.durations import whole_seconds
from services.platform.errors import engine_rules, failed_precondition, invalid_argument
from services.platform.words import word
from services.siblings.datasets import annotations_missing, can_judge, refuse_steps_on_tensors
from services.storage.folders import OWN_PREFIXES
from services.tasks.kind import check_memory

DEFAULT_LOCATION = "optimized"
JUDGED_SAMPLES = 1000
"""Samples of a dataset on which each form that reaches this stage is judged."""

RECORD_FILE = "record.json"
"""Record of a search: among the outputs of the task that made it, and among the inputs of the next."""

# Beyond the budget, for reading the source, building the form that is recommended, and moving files.
_MORE_SECONDS = 1800
_QUANTIZING = frozenset({"quantizationTasks", "optimizationTasks"})
"""Tasks that choose another arithmetic than their source's. A conversion computes what its source says."""


def normalized(spec: OptimizationSpec) -> OptimizationSpec:
    """Return the specification with every default written out, so that equal work is equal bytes.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field that is wrong.
    """
    made = OptimizationSpec()
    made.CopyFrom(spec)
    if made.precision_goal == PRECISION_UNSPECIFIED:
        made.precision_goal = PRECISION_FP32
    made.objective = made.objective or OBJECTIVE_LATENCY
    made.search_budget.FromSeconds(whole_seconds(made.search_budget) or DEFAULT_BUDGET_SECONDS)
    with engine_rules("task.spec"):
        reading_runtime(made.device)
        check_goal(made.device, word(Precision, made.precision_goal))
        made.engine_version = check_engines(made.engine_version)
    _check_calibration(made)
    _check_accuracy(made)
    _check_limits(made)
    if made.output_location:
        _check_location(made.output_location)
    return made


def time_limit(spec: OptimizationSpec, device: Device) -> int:
    """Return the longest time of one attempt, in seconds: never shorter than the search and what surrounds it."""
    return whole_seconds(spec.timeout) or max(device.timeout_seconds, whole_seconds(spec.search_budget) + _MORE_SECONDS)


def asks_for_judgement(spec: OptimizationSpec) -> bool:
    """Return whether the dataset has to judge: else it may serve for calibration alone."""
    return bool(spec.max_degradation or spec.metric)


def judges(spec: OptimizationSpec, dataset: Dataset, template: Template) -> bool:
    """Return whether accuracy is measured on a dataset.

    Raises:
        LatheError: INVALID_ARGUMENT for a bound or a metric of outputs that nothing judges, and for steps on tensors;
            FAILED_PRECONDITION, reason ANNOTATIONS_MISSING, if they need annotations that are not there.
    """
    refuse_steps_on_tensors(dataset, len(spec.preprocessing), "task.spec.preprocessing")
    if len(template.components) == 1 and can_judge(dataset, template.method):
        return True
    if not asks_for_judgement(spec):
        return False
    field = "max_degradation" if spec.max_degradation else "metric"
    with engine_rules("task.spec"):
        check_judged(len(template.components), template.method, field)
    raise annotations_missing(dataset, template.method)


def require_the_source_itself(version: ModelVersion, source: ModelVersion) -> None:
    """Refuse a version that a task made less exact than its source: the source would be optimized in its place.

    Raises:
        LatheError: FAILED_PRECONDITION, reason QUANTIZED_VERSION, naming the version to optimize.
    """
    made_by = version.lineage.task.partition("/")[0]
    precision = version.package.precision
    if made_by not in _QUANTIZING or precision in {PRECISION_UNSPECIFIED, PRECISION_FP32}:
        return
    name = word(Precision, precision)
    raise failed_precondition(
        "QUANTIZED_VERSION",
        f"'{version.name}' is a form of '{source.name}' in {name}. An optimization starts from the source, so that "
        f"its result would not be a form of '{version.name}'. Optimize '{source.name}' with the precision goal {name}.",
        version.name,
    )


def place_of(task: str, spec: OptimizationSpec) -> str:
    """Return the folder of the bucket that a task's model is saved to: `vision/m-digits/mv-3`.

    Without a named location, it is a folder of the task's own: `optimized/<id>/m-digits/mv-3`.
    """
    _, model, _, number = spec.model_version.split("/")
    location = spec.output_location or f"{DEFAULT_LOCATION}/{task.rpartition('/')[2]}"
    return f"{location}/m-{model}/mv-{number}"


def _check_calibration(spec: OptimizationSpec) -> None:
    given = spec.HasField("calibration_samples")
    if given and spec.quantization_aware:
        raise invalid_argument(
            "task.spec.calibration_samples",
            "a source that was trained quantization-aware brings its own ranges, which stay as they are; leave the "
            "samples out",
        )
    if given and spec.precision_goal != PRECISION_INT8:
        goal = word(Precision, spec.precision_goal)
        raise invalid_argument(
            "task.spec.calibration_samples",
            f"they serve INT8 forms, and the goal {goal} allows none; set precision_goal to INT8, or leave them out",
        )
    if spec.precision_goal == PRECISION_INT8 and not (given or spec.dataset or spec.quantization_aware):
        raise invalid_argument(
            "task.spec.precision_goal",
            "INT8 forms are calibrated on data: name a dataset, or upload samples and name them in calibration_samples",
        )


def _check_accuracy(spec: OptimizationSpec) -> None:
    if spec.dataset:
        return
    for field in ("max_degradation", "metric", "preprocessing"):
        if getattr(spec, field):
            raise invalid_argument(f"task.spec.{field}", "it needs a dataset; name one in `dataset`")


def _check_limits(spec: OptimizationSpec) -> None:
    timeout, budget = whole_seconds(spec.timeout), whole_seconds(spec.search_budget)
    if 0 < timeout <= budget:
        raise invalid_argument(
            "task.spec.timeout",
            f"an attempt may take {timeout} s, which the search alone takes with its budget of {budget} s; give it "
            "more, or leave it out",
        )
    check_memory(spec.memory_limit_bytes)


def _check_location(location: str) -> None:
    parts = location.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise invalid_argument(
            "task.spec.output_location",
            f"'{location}' has an empty, '.' or '..' part; write a folder of the bucket, such as optimized/vision",
        )
    if parts[0] in OWN_PREFIXES:
        raise invalid_argument(
            "task.spec.output_location",
            f"'{parts[0]}' holds the files of sources, uploads and releases, which must not be overwritten; choose "
            f"another folder, such as {DEFAULT_LOCATION}",
        )


def require_succeeded(task: OptimizationTask) -> None:
    """Raise LatheError FAILED_PRECONDITION, reason TASK_NOT_SUCCEEDED, unless a task has a result to save."""
    if task.status.state != TASK_STATE_SUCCEEDED:
        state = word(TaskState, task.status.state)
        raise failed_precondition(
            "TASK_NOT_SUCCEEDED", f"'{task.name}' is {state}; only what SUCCEEDED can be saved.", task.name
        )


def require_model(task: str, model: str, standing: str, wanted: str) -> None:
    """Raise LatheError FAILED_PRECONDITION, reason ALREADY_SAVED, if a task is saved under another model."""
    if wanted and wanted != model:
        raise failed_precondition(
            "ALREADY_SAVED",
            f"'{task}' {standing} of '{model}', and a task is saved once. Optimize again to have it elsewhere too: the "
            "work itself is in the action cache.",
            task,
        )
