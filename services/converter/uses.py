"""What a conversion uses, by which its task is found."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.converter.v1.conversion_service_pb2 import ConversionSpec

from services.siblings.overrides import named_only


def used_by(spec: ConversionSpec) -> Sequence[str]:
    """Return the names of the resources that the specification names, each once."""
    architectures = (component.architecture for component in named_only(spec.overrides).values.components)
    named = (spec.model_version, spec.template, spec.output_model, *architectures)
    return list(dict.fromkeys(name for name in named if name))
