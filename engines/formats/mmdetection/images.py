"""What a configuration of MMDetection says of images and classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engines.failures import invalid
from engines.formats.detectors.statement import Images

_LOADERS = ("test_dataloader", "val_dataloader", "train_dataloader")


def images_of(config: Any) -> Images:
    """Return the images that a detector takes: the largest that its test pipeline makes, and how they are normalized.

    Raises:
        EngineFailure: INVALID_SPEC if its pipeline says no size.
    """
    steps = config.model.get("data_preprocessor") or {}
    divisor = int(steps.get("pad_size_divisor", 1) or 1)
    size = _size(_pipeline(config))
    if size is None:
        raise invalid(
            "The configuration's test pipeline says no size of images: it has no Resize with a scale.",
            "Declare the input in tensor information: --tensor-information 'image:float(1*3*800*1344)'.",
        )
    width, height = (-(-extent // divisor) * divisor for extent in size)
    # Images are loaded in the order BGR, and reversed by the preprocessor if it says so.
    reverse = steps.get("bgr_to_rgb") or steps.get("rgb_to_bgr")
    mean, std = (tuple(map(float, steps.get(name) or ())) for name in ("mean", "std"))
    return Images(height, width, mean, std, "RGB" if reverse else "BGR", divisor)


def classes_of(config: Any, checkpoint: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of a detector's classes: of the data that the checkpoint was trained on, or the configuration's.

    Names that are not as many as its classes are left out: they are those of other data.

    Args:
        config: The configuration.
        checkpoint: What the checkpoint holds.
        count: How many classes it has.
    """
    for found in _lists(config, checkpoint):
        names = (
            (found,) if isinstance(found, str) else tuple(map(str, found)) if isinstance(found, list | tuple) else ()
        )
        if len(names) == count == len(set(names)):
            return names
    return ()


def _lists(config: Any, checkpoint: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what may be a list of classes, the surest first."""
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    data = meta.get("dataset_meta")
    if isinstance(data, Mapping):
        yield data.get("classes")
        yield data.get("CLASSES")
    yield meta.get("CLASSES")
    datasets = [_dataset(config, loader) for loader in _LOADERS]
    for dataset in datasets:
        yield (dataset.get("metainfo") or {}).get("classes")
    for dataset in datasets:
        yield _of_type(dataset.get("type"))


def _dataset(config: Any, loader: str) -> Mapping[str, Any]:
    """Return the dataset that a loader reads, without what is wrapped around it."""
    found: Any = (config.get(loader) or {}).get("dataset") or {}
    while isinstance(found, Mapping) and isinstance(found.get("dataset"), Mapping):
        found = found["dataset"]
    return found if isinstance(found, Mapping) else {}


def _of_type(kind: Any) -> Any:
    """Return the classes that a kind of dataset always has, as COCO's."""
    if not kind:
        return None
    import mmdet.datasets  # noqa: F401 - registers them
    from mmengine.registry import DATASETS

    found = DATASETS.get(kind) if isinstance(kind, str) else kind
    return getattr(found, "METAINFO", {}).get("classes")


def _pipeline(config: Any) -> list[Mapping[str, Any]]:
    found = _dataset(config, _LOADERS[0]).get("pipeline") or config.get("test_pipeline") or []
    return [step for step in found if isinstance(step, Mapping)]


def _size(pipeline: list[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return width and height of the largest image that a pipeline makes; None if it does not say."""
    size: tuple[int, int] | None = None
    for step in pipeline:
        name = str(getattr(step.get("type"), "__name__", step.get("type"))).rpartition(".")[2]
        if name in {"Resize", "FixScaleResize"} and _is_pair(step.get("scale")):
            size = int(step["scale"][0]), int(step["scale"][1])
        elif name == "Pad" and _is_pair(step.get("size")):
            size = int(step["size"][0]), int(step["size"][1])
        elif name == "Pad" and step.get("pad_to_square") and size is not None:
            size = max(size), max(size)
        elif name == "Pad" and step.get("size_divisor") and size is not None:
            by = int(step["size_divisor"])
            size = -(-size[0] // by) * by, -(-size[1] // by) * by
    return size


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(entry, int) for entry in value)
