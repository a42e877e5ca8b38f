"""A catalog in which a device is known, and nothing builds for it."""

from __future__ import annotations

from engines.spec.devices import Catalog, Device, load_catalog


def planned(device: str) -> Device:
    """Return a device as it is before anybody writes a builder for it."""
    found = load_catalog().device(device)
    unbuilt = {name: entry.model_copy(update={"built": ""}) for name, entry in found.runtimes.items()}
    return found.model_copy(update={"runtimes": unbuilt})


def with_planned(device: str) -> Catalog:
    """Return the catalog with such a device."""
    catalog = load_catalog()
    return catalog.model_copy(update={"devices": {**catalog.devices, device: planned(device)}})
