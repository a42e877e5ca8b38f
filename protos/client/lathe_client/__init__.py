"""A small typed client of the Lathe services, over their generated stubs.

    from lathe_client import Lathe

    with Lathe() as lathe:
        version = lathe.push("models/digits", "digits.onnx", format=MODEL_FORMAT_ONNX)
        task = lathe.convert(version.name, "templates/onnx-cpu-openvino").wait()
        lathe.download(task.result.model_version, "digits-package")

Errors:

    * `LatheError` (a `grpc.RpcError`): a service refused a call, or could not be reached.
    * `TaskEndedError`: a task FAILED, with its `failure`, or was cancelled.
    * `ImportEndedError`: the import of a large version failed, or was cancelled.
    * `TransferError`: bytes did not arrive.
"""

from lathe_client.client import Lathe
from lathe_client.errors import ImportEndedError, LatheError, TaskEndedError, TransferError, Violation
from lathe_client.tasks import Task

__all__ = ["ImportEndedError", "Lathe", "LatheError", "Task", "TaskEndedError", "TransferError", "Violation"]
