"""A worker takes tasks of a device only if it can build for it."""

from __future__ import annotations

import pytest

from engines.runtimes import runtimes
from services.platform.settings import ConfigurationError
from services.tasks.worker.process import served_device


def test_a_worker_serves_a_device_if_some_runtime_says_that_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = served_device("cpu-x86-64")
    assert device.id == "cpu-x86-64"
    for name in device.buildable_runtimes:
        room = type(runtimes()[name])
        monkeypatch.setattr(room, "available", lambda self, device=None: f"{self.name}-toolkit for {device.id}")
    with pytest.raises(ConfigurationError, match="openvino needs openvino-toolkit for cpu-x86-64"):
        served_device("cpu-x86-64")


def test_a_device_that_is_not_in_the_catalog_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the catalog has: cpu-x86-64"):
        served_device("cpu-x87")
