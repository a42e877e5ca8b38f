"""KEDA's own schemas of ScaledObject and ScaledJob, as a check that takes no field that KEDA does not have.

They are those of the CRDs of KEDA 2.16.1, of which the models of the package `cloudcoil.models.keda` (Apache-2.0) are
made. The models let unknown fields pass; here they do not.
"""

from __future__ import annotations

import functools
from typing import Any

import jsonschema


def validate(resource: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError if KEDA would not take a resource as it stands."""
    jsonschema.Draft202012Validator(_schema(resource["kind"])).validate(resource)


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    from cloudcoil.models.keda import v1alpha1

    schema: dict[str, Any] = getattr(v1alpha1, kind).model_json_schema(by_alias=True)
    for each in (schema, *schema["$defs"].values()):
        if "properties" in each:
            each["additionalProperties"] = False
    return schema
