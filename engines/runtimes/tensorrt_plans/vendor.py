"""What the releases of NVIDIA's builder differ in: TensorRT 8.6, 10 and 11, and TensorRT-RTX 1.7.

Flags go by name: their numbers changed. STRONGLY_TYPED is 1 in TensorRT 10 and 0 in 11.

                          8.6                  10                  11                  RTX
    network               explicit batch       strongly typed      strongly typed      strongly typed
    precision             flags of the config  types of the graph  types of the graph  types of the graph
    built for             the GPU that builds  the GPU that builds the GPU that builds a named compute capability
    progress, cancelling  none                 IProgressMonitor    IProgressMonitor    IProgressMonitor
    a parser's error      number of the node   name, operator      name, operator      name, operator

A name that not all releases have is asked for by `offers`, with its path as a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.graph.precision import QUANTIZED
from engines.runtimes.refusals import unsupported_precision


@dataclass(frozen=True)
class ParserError:
    """What the ONNX parser objects to.

    Attributes:
        code: Name of the `ErrorCode`: `UNSUPPORTED_NODE`.
        text: The parser's words.
        position: Number of the node in its graph; negative if it is no node's error.
        node: Name of the node; empty if the release does not tell or the node has none.
        operator: Its operator; empty if the release does not tell.
    """

    code: str
    text: str
    position: int
    node: str
    operator: str


def offers(trt: Any, path: str) -> bool:
    """Return whether a release has a name: `NetworkDefinitionCreationFlag.STRONGLY_TYPED`."""
    missing = object()
    return reduce(lambda found, name: getattr(found, name, missing), path.split("."), trt) is not missing


def network_flags(trt: Any) -> int:
    """Return the flags of a network whose types are the graph's; of 8.6, which has no such flag, of any batch."""
    if offers(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"):
        return int(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    return int(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))


def state_precision(trt: Any, title: str, config: Any, precision: str) -> None:
    """Let 8.6 compute quantized nodes in integers; later releases compute what the graph's types say.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION for half precision in 8.6: its flags would let every layer take it.
    """
    if offers(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED") or precision == "FP32":
        return
    if precision not in QUANTIZED or not offers(trt, "BuilderFlag.INT8"):
        why = f"release {trt.__version__} takes no types from the graph, and would choose where to compute in it."
        raise unsupported_precision(title, precision, why, "It is offered by TensorRT 10 and later.")
    config.set_flag(trt.BuilderFlag.INT8)


def names_targets(trt: Any) -> bool:
    """Return whether a release builds for a chip that is named, so that it needs no GPU to build."""
    return offers(trt, "ComputeCapability") and hasattr(trt.IBuilderConfig, "set_compute_capability")


def aim(trt: Any, title: str, config: Any, architecture: str) -> None:
    """Build for an architecture of the catalog (`sm_86`), if the release can be told.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if it does not build for this one.
    """
    if not names_targets(trt):
        return
    wanted, known = architecture.replace("_", "").upper(), trt.ComputeCapability.__members__
    if wanted not in known:
        able = ", ".join(f"SM {name[2:-1]}.{name[-1]}" for name in known if name.startswith("SM"))
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"{title} {trt.__version__} does not build for {architecture}; it does for {able}.",
            suggested_fix="Choose another runtime or another device in the template.",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[wanted], 0)


def monitors(trt: Any) -> bool:
    """Return whether a release tells its progress and can be cancelled."""
    return offers(trt, "IProgressMonitor")


def parser_errors(parser: Any) -> Iterator[ParserError]:
    """Yield what a parser objected to, in its order."""
    for place in range(parser.num_errors):
        error = parser.get_error(place)
        told = [str(getattr(error, name)() or "") if hasattr(error, name) else "" for name in _PLACES]
        yield ParserError(error.code().name, str(error.desc()), int(error.node()), *told)


_PLACES = ("node_name", "node_operator")
