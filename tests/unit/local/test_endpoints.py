from __future__ import annotations

from pathlib import Path

import pytest

from services.local.endpoints import Endpoint, Endpoints, read_endpoints, remove_endpoints, write_endpoints

PARTS = (
    Endpoint("postgres", "server", "127.0.0.1:55432", 10),
    Endpoint("registry", "service", "127.0.0.1:50051", 11),
    Endpoint("worker-cpu", "worker", "", 12),
)


def test_the_file_is_read_back_and_private(tmp_path: Path) -> None:
    write_endpoints(tmp_path, 9, PARTS)
    assert read_endpoints(tmp_path) == Endpoints(9, PARTS)
    assert (tmp_path / "endpoints.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]
    remove_endpoints(tmp_path)
    remove_endpoints(tmp_path)
    assert read_endpoints(tmp_path) is None


def test_addresses_are_those_of_services() -> None:
    assert Endpoints(9, PARTS).addresses() == {"registry": "127.0.0.1:50051"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"parts": []}', '{"supervisor_pid": 1, "parts": [{"nane": 1}]}', "7"])
def test_a_damaged_file_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "endpoints.json").write_text(text)
    assert read_endpoints(tmp_path) is None
