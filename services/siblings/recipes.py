"""How the source of a task that starts in floating point is read: a full template."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from lathe.internal.v1.resolution_service_pb2 import ResolveTaskTemplateRequest
from lathe.internal.v1.resolution_service_pb2_grpc import ResolutionServiceStub
from lathe.registry.v1.model_service_pb2 import ModelFormat, ModelVersion
from lathe.template.v1.template_service_pb2 import (
    ResolvedTemplate,
    Template,
    TemplateOverrides,
)
from lathe.type.v1.precision_pb2 import PRECISION_FP32

from engines.spec.devices import load_catalog
from services.platform.errors import LatheError, failed_precondition, from_rpc_error, invalid_argument
from services.platform.words import word
from services.siblings.resolution import complete


@dataclass(frozen=True)
class RecipeRequest:
    """A specification's choice of template, device and runtime; its fields have the same names.

    Attributes:
        template: `templates/{template}`; empty for the template that a package brings, or else a built-in one.
        device: Device of the catalog; empty for that of the template.
        runtime: Runtime of the catalog; empty for that of the template.
        has_options: Whether the template's options of the runtime count; not for work that chooses runtimes itself.
    """

    template: str = ""
    device: str = ""
    runtime: str = ""
    has_options: bool = True


class Recipes:
    """Finds templates and has them resolved."""

    def __init__(self, template: grpc.aio.Channel) -> None:
        self._templates = ResolutionServiceStub(template)

    async def resolve(self, wanted: RecipeRequest, source: ModelVersion, own: Template | None) -> Template:
        """Return the full template by which `source` is read, in FP32, for the asked device and runtime.

        Args:
            wanted: The request.
            source: A version that is no package.
            own: The template of the package that the task starts from; None if it starts from a source.

        Raises:
            LatheError: INVALID_ARGUMENT or FAILED_PRECONDITION naming what is missing.
        """
        if own is not None:
            return _adapted(wanted, own)
        name = wanted.template or _built_in(wanted, source)
        values = Template(device=wanted.device, runtime=wanted.runtime, precision=PRECISION_FP32)
        paths = [field for field in ("device", "runtime") if getattr(wanted, field)] + ["precision"]
        paths += [] if wanted.has_options else ["runtime_options"]
        request = ResolveTaskTemplateRequest(name=name, overrides=TemplateOverrides(values=values, paths=paths))
        try:
            resolved: ResolvedTemplate = await self._templates.ResolveTaskTemplate(request)
            if not wanted.template and not resolved.template.built_in:  # a user's, under the name of a built-in one
                raise _no_template(wanted, source)
            complete(resolved, source)
        except grpc.aio.AioRpcError as error:
            if not wanted.template and error.code() is grpc.StatusCode.NOT_FOUND:
                raise _no_template(wanted, source) from None
            raise _explained(from_rpc_error(error), name) from None
        except LatheError as error:
            raise _explained(error, name) from None
        return resolved.template


def built_in_name(source_format: str, device: str, runtime: str, precision: str, variant: str = "") -> str:
    """Return the name of a built-in template: of the one that takes any source of a format, or of a `variant`."""
    parts = (source_format.replace("_", "-"), variant, device, runtime, precision)
    return f"templates/{'-'.join(part for part in parts if part).lower()}"


def _built_in(wanted: RecipeRequest, source: ModelVersion) -> str:
    """Return the name of the built-in template that takes any source of this format."""
    for field in ("device", "runtime"):
        if not getattr(wanted, field):
            raise invalid_argument(
                f"task.spec.{field}", f"'{source.name}' is not a package, so nothing names its {field}: set it here"
            )
    device = load_catalog().devices.get(wanted.device)
    if device is None or wanted.runtime not in device.buildable_runtimes:
        raise _no_template(wanted, source)
    return built_in_name(word(ModelFormat, source.format), wanted.device, wanted.runtime, "FP32")


def _no_template(wanted: RecipeRequest, source: ModelVersion) -> LatheError:
    return failed_precondition(
        "NO_TEMPLATE",
        f"No built-in template reads {word(ModelFormat, source.format)} for {wanted.device} with "
        f"{wanted.runtime}. Name a template of your own in task.spec.template.",
        source.name,
    )


def _adapted(wanted: RecipeRequest, own: Template) -> Template:
    if wanted.template:
        raise invalid_argument(
            "task.spec.template", "a package brings the template that it was made with; leave this field empty"
        )
    template = Template()
    template.CopyFrom(own)
    template.device, template.runtime = wanted.device or own.device, wanted.runtime or own.runtime
    template.precision = PRECISION_FP32
    if template.runtime != own.runtime or not wanted.has_options:
        template.ClearField("runtime_options")  # another runtime has other ones
    return template


def _explained(told: LatheError, name: str) -> LatheError:
    """Return a refusal of a template as one about this request, which has no overrides to mend."""
    if told.code is not grpc.StatusCode.INVALID_ARGUMENT:
        return told
    words = "; ".join(description for _, description in told.fields) or told.message
    return invalid_argument(
        "task.spec.template", f"'{name}' does not fit: {words}. Choose a template that sets this", reason=told.reason
    )
