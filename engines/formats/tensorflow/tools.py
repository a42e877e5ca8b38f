"""TensorFlow and tf2onnx as the readers of TensorFlow's formats use them: quiet, bounded, and imported late.

Their own log lines stay out of the log of a task; their errors about a model become failures.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.protocol import not_installed
from engines.sandbox.tasklog import without_stderr
from engines.tensors import Array

log = logging.getLogger(__name__)

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_CPP_MAX_VLOG_LEVEL": "0", "CUDA_VISIBLE_DEVICES": "-1"}
_LOGGERS = ("tensorflow", "absl", "tf2onnx")
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")


def import_tensorflow() -> Any:
    """Return the package `tensorflow`, limited to the threads of this process, its own messages suppressed.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if TensorFlow or tf2onnx is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with without_stderr():
            import tensorflow as tf
            import tf2onnx.convert  # noqa: F401 - it looks for TensorFlow as it is imported
    except ImportError as error:
        raise not_installed("TensorFlow's formats", "TensorFlow or tf2onnx", "tensorflow", error) from error
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = len(os.sched_getaffinity(0))
    with suppress(RuntimeError):  # it has begun to work in this process, with the threads set then
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def crashed(what: str, error: Exception) -> EngineFailure:
    """Return the failure of a tool's own exception: the operator that TensorFlow does not know, else its words."""
    if found := _UNREGISTERED.search(str(error)):
        return unknown_operator(found[1], "")
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{what}: {first_line(error)}",
        evidence=f"{type(error).__name__}: {first_line(error)}",
        suggested_fix="Save the model with a current TensorFlow and try again; the log has the details.",
    )


def not_run(what: str, error: Exception, values: Sequence[Array]) -> EngineFailure:
    """Return the failure of a graph that TensorFlow does not run on the inputs of a sample."""
    log.info("TensorFlow does not run %s", what, exc_info=error)
    shapes = ", ".join(f"{value.dtype}({'*'.join(map(str, value.shape))})" for value in values)
    return EngineFailure(
        FailureReason.SHAPE_MISMATCH,
        f"TensorFlow cannot run {what} on its inputs: {first_line(error)}",
        evidence=f"inputs: {shapes}",
        suggested_fix="Declare the component's inputs with shapes, dtypes and ranges of values that the network takes.",
    )


def unknown_operator(operator: str, node: str) -> EngineFailure:
    """Return the failure of an operator that this TensorFlow does not have."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"The operator '{operator}'{of_node(node)} is not one of TensorFlow's own, and its library is not installed.",
        node=node,
        operator=operator,
        suggested_fix="Write this part of the network with TensorFlow's own operators.",
    )


def of_node(node: str) -> str:
    """Return the words that name a node, if there is a name."""
    return f" of the node '{node}'" if node else ""
