"""The manifest of a package: its index, which serving systems, `infer.py` and the registry read.

`schema_version` rises if a reader of the older version would misread a newer manifest, not for new fields alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from engines.failures import EngineFailure, FailureReason, first_objection
from engines.spec.template import ClassTaxonomy
from engines.tensors.preprocessing import Preprocessing

SCHEMA_VERSION: Literal[1] = 1
FILE_NAME = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Extents(_Part):
    """Extents of a tensor's axes; an axis is dynamic if `min` and `max` differ."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class Tensor(_Part):
    """One input or output.

    `range` holds the bounds of random inputs; `value` their values, one for all elements or one for each; `axis_names`
    the source's names of the axes; `batch_axis` the axis that counts samples: the first if absent, -1 if there is none.
    """

    name: str
    dtype: str
    shape: Extents | None = None
    range: tuple[float, float] | None = None
    value: tuple[float, ...] | None = None
    axis_names: tuple[str, ...] | None = None
    batch_axis: int | None = None


class Interface(_Part):
    """Inputs and outputs, in the order of the graph."""

    inputs: Annotated[tuple[Tensor, ...], FailFast()]
    outputs: Annotated[tuple[Tensor, ...], FailFast()]


class RuntimeEntry(_Part):
    """The runtime that a form was verified in."""

    name: str
    version: str


class ComponentEntry(_Part):
    """One graph: `entry` is the file that the runtime opens, with `options`.

    `runtime` and `precision` are present if they differ from the package's; `Manifest.form_of` covers both cases.
    """

    # The same pattern as in templates: names become paths in model repositories, and anybody may upload a manifest.
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model_type: str
    entry: str
    files: Annotated[tuple[str, ...], FailFast()] = Field(min_length=1)
    options: dict[str, str]
    max_batch: int = Field(lt=1 << 31)
    num_classes: int = Field(lt=1 << 31)
    signature: Interface
    preprocessing: dict[str, Preprocessing]
    parity: dict[str, Any]
    runtime: RuntimeEntry | None = None
    precision: str | None = None
    warnings: tuple[str, ...] | None = None


class Lineage(_Part):
    """Origin of the package, by digests, so that equal work gives equal bytes."""

    source_format: str
    source_digest: str
    template: str
    template_digest: str
    architectures: dict[str, str]


class Requirements(_Part):
    """Requirements of a machine: each package, and at least one of the processor flags if any are listed."""

    architecture: str
    packages: dict[str, str]
    cpu_flags_any: tuple[str, ...]


class QuantizedComponent(_Part):
    """How one component was quantized: the quantizer, and the nodes of its graph that stay in floating point."""

    quantizer: str
    floating_point_nodes: tuple[str, ...] = ()


class QuantizationEntry(_Part):
    """How the package was quantized: the request, and the result for each component."""

    scheme: str
    method: str
    granularity: str
    asymmetric: bool
    components: dict[str, QuantizedComponent]


@dataclass(frozen=True)
class ServedForm:
    """The runtime and the precision that a component computes in."""

    runtime: RuntimeEntry
    precision: str

    def __str__(self) -> str:
        """Return it in words, as `FP32 by onnxruntime 1.31.1`."""
        return f"{self.precision} by {self.runtime.name} {self.runtime.version}"


class Manifest(_Part):
    """The whole manifest. `runtime` and `precision` apply to components that do not state their own."""

    schema_version: Literal[1] = SCHEMA_VERSION
    repo: str
    version: str
    device: str
    runtime: RuntimeEntry
    precision: str
    method: str
    args: dict[str, dict[str, Any]]
    taxonomies: tuple[ClassTaxonomy, ...]
    # A wrong entry takes a thousand times its own bytes in errors: only the first is told.
    components: Annotated[tuple[ComponentEntry, ...], FailFast()] = Field(min_length=1)
    lineage: Lineage
    requirements: Requirements
    report: str
    quantization: QuantizationEntry | None = None

    def form_of(self, component: ComponentEntry) -> ServedForm:
        """Return the runtime and the precision that a component computes in."""
        return ServedForm(component.runtime or self.runtime, component.precision or self.precision)

    @property
    def forms(self) -> tuple[ServedForm, ...]:
        """The forms of the components, each once, in the order of the components."""
        return tuple(dict.fromkeys(map(self.form_of, self.components)))

    def to_json(self) -> str:
        """Return the file's text: indented, keys in the order of this model, a newline at the end."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a package, and check that every file that it names is inside the package.

    Raises:
        EngineFailure: INVALID_MODEL naming the field or the file that is wrong.
    """
    try:
        manifest = Manifest.model_validate_json((directory / FILE_NAME).read_bytes())
    except OSError as error:
        raise _invalid(f"The package has no readable {FILE_NAME}: {error.strerror}.") from error
    except ValidationError as error:
        where, what = first_objection(error, "the file")
        raise _invalid(f"The package's {FILE_NAME} is wrong at {where}: {what}.") from error
    for component in manifest.components:
        if component.entry not in component.files:
            raise _invalid(
                f"The package's component '{component.name}' opens '{component.entry}', which is not one of its files."
            )
        for name in component.files:
            path = (directory / name).resolve()
            if not path.is_relative_to(directory.resolve()) or not path.is_file():
                raise _invalid(
                    f"The package's component '{component.name}' names the file '{name}', which is not there."
                )
    return manifest


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, message)
