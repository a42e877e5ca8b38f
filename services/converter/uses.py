"""What a conversion uses, by which its task is found. Apart from the kind, because a migration needs it, too."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.converter.v1.conversion_service_pb2 import ConversionSpec

from services.siblings.overrides import named_only


def used_by(spec: ConversionSpec) -> Sequence[str]:
    """Return the names of the resources that the specification names, each once."""
    named = (spec.model_version, spec.template, spec.output_model, *architectures_of(spec))
    return list(dict.fromkeys(name for name in named if name))


def architectures_of(spec: ConversionSpec) -> list[str]:
    """Return the architectures that the specification itself names."""
    components = named_only(spec.overrides).values.components
    return [component.architecture for component in components if component.architecture]
