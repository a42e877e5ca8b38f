"""`predictions.parquet`: a model's prediction for each sample, one row each, and the truth if it is known.

| column | type | meaning |
|---|---|---|
| number | int64 | number of the item in the selection, from 0 |
| path, sha256 | string | the item in its dataset; together with `row` they name a sample across evaluations |
| row | int64 | row of a tensor file; 0 for images |
| width, height | int32 | of the image, in pixels; 0 for tensors |
| attributes | map | free attributes of the item |
| loss | double | how wrong the prediction is; null if the truth is unknown |
| correct | bool | null if the truth is unknown |
| tasks | list | per classification task: truth and prediction as numbers of classes, -1 for none |
| truths, detections | list | boxes in pixels of the image, x and y of the top left corner |
| vector | list of float32 | embedding |

The schema's metadata holds, under `lathe`, the JSON of `PredictionsHeader`.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.failures import EngineFailure, FailureReason, first_line

FILE_NAME = "predictions.parquet"
_KEY = b"lathe"
_ROWS = 1024


class PredictionsHeader(BaseModel):
    """Properties of all rows: the method, the names of classes by task, the requested thresholds, the main metric.

    A detector has one entry in `classes`. Two evaluations are comparable if `method` and `classes` are equal.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    method: str
    classes: dict[str, tuple[str, ...]]
    iou_thresholds: tuple[float, ...] = ()
    slices: tuple[str, ...] = ()
    main_metric: str = ""


@dataclass(frozen=True)
class TaskPrediction:
    """One classification task of one sample.

    Attributes:
        task: Name of the task.
        truth: Number of the true class; -1 if unknown.
        predicted: Number of the predicted class; -1 if the scores were not finite.
        score: Probability of the predicted class.
        truth_score: Probability of the true class.
        rank: Number of classes that score higher than the true one; -1 if it is unknown or nothing is predicted.
        loss: Cross-entropy; 0 if the truth is unknown.
    """

    task: str
    truth: int
    predicted: int
    score: float
    truth_score: float
    rank: int
    loss: float

    @property
    def correct(self) -> bool:
        """Whether the truth is known and predicted."""
        return self.truth >= 0 and self.truth == self.predicted


@dataclass(frozen=True)
class DetectedBox:
    """A predicted box, in pixels of the image."""

    label: int
    score: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class TrueBox:
    """A true box, in pixels of the image; `area` is the object's, in pixels."""

    label: int
    x: float
    y: float
    width: float
    height: float
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class SamplePrediction:
    """One row."""

    number: int
    path: str
    sha256: str
    row: int
    width: int
    height: int
    attributes: Mapping[str, str]
    loss: float | None = None
    correct: bool | None = None
    tasks: tuple[TaskPrediction, ...] = ()
    truths: tuple[TrueBox, ...] = ()
    detections: tuple[DetectedBox, ...] = ()
    vector: Sequence[float] = ()


class PredictionsWriter:
    """Writes rows as they arrive; use it as a context manager."""

    def __init__(self, path: Path, header: PredictionsHeader) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema().with_metadata({_KEY: header.model_dump_json().encode()})
        self._writer: Any = pq.ParquetWriter(str(path), self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, samples: Sequence[SamplePrediction]) -> None:
        """Append rows."""
        self._rows += [_to_row(sample) for sample in samples]
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Write the remaining rows and close the file."""
        if kind is None:
            self._flush()
        self._writer.close()


def read_header(path: Path) -> PredictionsHeader:
    """Return the header of a file.

    Raises:
        EngineFailure: INVALID_DATA if the file is no `predictions.parquet`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(str(path)).metadata or {}
        return PredictionsHeader.model_validate_json(metadata[_KEY])
    except (OSError, KeyError, pa.ArrowException, ValidationError) as error:
        message = f"'{path.name}' is not a file of predictions: {first_line(error)}."
        raise EngineFailure(FailureReason.INVALID_DATA, message) from error


def read_predictions(path: Path, rows: Sequence[int] | None = None) -> Iterator[SamplePrediction]:
    """Yield all rows, or those at the given indexes, in their order; the whole file is never in memory.

    Args:
        path: The file.
        rows: Ascending indexes of rows, from 0; all rows if None.

    Raises:
        EngineFailure: INVALID_DATA if the file is no `predictions.parquet`.
    """
    import pyarrow.parquet as pq

    read_header(path)
    start = 0
    with pq.ParquetFile(str(path)) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            chosen = batch
            if rows is not None:
                here = rows[bisect_left(rows, start) : bisect_left(rows, start + len(batch))]
                chosen = batch.take([row - start for row in here]) if here else batch.slice(0, 0)
            yield from map(_from_row, chosen.to_pylist())
            start += len(batch)


def _schema() -> Any:
    import pyarrow as pa

    integer, real, text = pa.int32(), pa.float64(), pa.string()
    box = [("label", integer), *((name, real) for name in ("x", "y", "width", "height"))]
    task = [("task", text), ("truth", integer), ("predicted", integer), ("score", real), ("truth_score", real)]
    return pa.schema(
        [
            ("number", pa.int64()),
            ("path", text),
            ("sha256", text),
            ("row", pa.int64()),
            ("width", integer),
            ("height", integer),
            ("attributes", pa.map_(text, text)),
            ("loss", real),
            ("correct", pa.bool_()),
            ("tasks", pa.list_(pa.struct([*task, ("rank", integer), ("loss", real)]))),
            ("truths", pa.list_(pa.struct([*box, ("area", real), ("crowd", pa.bool_())]))),
            ("detections", pa.list_(pa.struct([*box, ("score", real)]))),
            ("vector", pa.list_(pa.float32())),
        ]
    )


def _to_row(sample: SamplePrediction) -> dict[str, Any]:
    row = {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    row["attributes"] = list(sample.attributes.items())
    for name in ("tasks", "truths", "detections"):
        row[name] = [vars(entry) for entry in row[name]]
    row["vector"] = list(sample.vector)
    return row


def _from_row(row: dict[str, Any]) -> SamplePrediction:
    row["attributes"] = dict(row["attributes"])
    for name, kind in (("tasks", TaskPrediction), ("truths", TrueBox), ("detections", DetectedBox)):
        row[name] = tuple(kind(**entry) for entry in row[name])
    row["vector"] = tuple(row["vector"])
    return SamplePrediction(**row)
