"""Failures of Caffe's nets, each with the layer and its line in the prototxt."""

from __future__ import annotations

from engines.failures import EngineFailure, FailureReason

WHOLE = "Upload the .prototxt that Caffe runs (deploy.prototxt) and the .caffemodel of the same net."


def refused(message: str, fix: str = WHOLE, *, layer: str = "", kind: str = "", evidence: str = "") -> EngineFailure:
    """Return the INVALID_MODEL failure of a message."""
    return EngineFailure(
        FailureReason.INVALID_MODEL, message, node=layer, operator=kind, evidence=evidence, suggested_fix=fix
    )


def unsupported(message: str, fix: str, *, layer: str, kind: str, evidence: str = "") -> EngineFailure:
    """Return the UNSUPPORTED_OPERATOR failure of a layer."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR, message, node=layer, operator=kind, evidence=evidence, suggested_fix=fix
    )


def mismatched(message: str, *, layer: str = "", evidence: str = "") -> EngineFailure:
    """Return the WEIGHTS_MISMATCH failure of a message."""
    return EngineFailure(
        FailureReason.WEIGHTS_MISMATCH,
        message,
        node=layer,
        evidence=evidence,
        suggested_fix="Upload the .caffemodel that was trained with this net, or the .prototxt of these weights.",
    )
