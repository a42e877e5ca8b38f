"""Plain data that people save with their weights: arguments, configurations, figures, paths and dates.

None of it is needed, so none is created: each of these names gets a stand-in that accepts any arguments and does
nothing. The names are listed all the same, because a checkpoint that names anything else is most often a
whole model, or hostile, and its user should know.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class Inert:
    """Stand-in for an object that is not needed: it can be created and given its state."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class InertMapping:
    """Stand-in for a class of mappings, whose objects become dictionaries, as they can hold state dicts."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


class InertList:
    """Stand-in for a class of lists, whose objects become lists."""

    def __new__(cls, *_: Any) -> Any:
        return []


_VALUES = {
    "argparse": "Namespace",
    "builtins": "bool bytearray bytes complex dict float frozenset getattr int list object range slice str tuple",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "mmengine.logging.history_buffer": "HistoryBuffer",
    "numpy": "dtype ndarray bool bool_ float16 float32 float64 int8 int16 int32 int64 str_ uint8 uint16 uint32 uint64",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "omegaconf.base": "ContainerMetadata Metadata SCMode UnionNode",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "torch.torch_version": "TorchVersion",
    "types": "SimpleNamespace",
    "typing": "Any Dict List Optional Tuple Union",
    "uuid": "UUID",
}
_MAPPINGS = {
    "addict.addict": "Dict",
    "collections": "defaultdict",
    "detectron2.config.config": "CfgNode",
    "easydict": "EasyDict",
    "fvcore.common.config": "CfgNode",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "mmcv.utils.config": "ConfigDict",
    "mmengine.config.config": "ConfigDict",
    "munch": "Munch",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "yacs.config": "CfgNode",
}
_LISTS = {"collections": "deque"}

INERT: dict[tuple[str, str], Any] = {
    (module, name): stand_in
    for stand_in, table in ((Inert, _VALUES), (InertMapping, _MAPPINGS), (InertList, _LISTS))
    for module, names in table.items()
    for name in names.split()
}
"""The stand-in for each of these names, by module and name."""
