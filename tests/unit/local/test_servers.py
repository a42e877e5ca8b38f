from __future__ import annotations

from pathlib import Path

import pytest

from services.local.servers import Servers, addresses_in


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("postgresql://me:se@cret@db.example:6432/lathe?sslmode=require", ["db.example:6432"]),
        ("postgresql://db.example/lathe", ["db.example:5432"]),
        ("nats://a:4222,nats://user:pass@b:4333", ["a:4222", "b:4333"]),
        ("nats://a,b", ["a:4222", "b:4222"]),
        ("http://127.0.0.1:9000", ["127.0.0.1:9000"]),
        ("https://s3.example", ["s3.example:443"]),
        ("postgresql://[::1]:5433/lathe", ["[::1]:5433"]),
        ("postgresql://[::1]/lathe", ["[::1]:5432"]),
    ],
)
def test_addresses_of_a_url_have_no_credentials(url: str, addresses: list[str]) -> None:
    assert addresses_in(url) == addresses


def test_only_servers_that_the_environment_does_not_name_are_embedded(tmp_path: Path) -> None:
    assert set(Servers(tmp_path, {}).own) == {"postgres", "nats", "s3"}
    servers = Servers(tmp_path, {"LATHE_DATABASE_URL": "postgresql://db/lathe", "LATHE_NATS_URL": ""})
    assert set(servers.own) == {"nats", "s3"}
    assert "LATHE_DATABASE_URL" not in servers.settings()
    assert servers.endpoints()[0].address == "db:5432"


def test_every_data_directory_has_secrets_of_its_own_and_keeps_them(tmp_path: Path) -> None:
    first, again, other = (Servers(tmp_path / name, {}) for name in ("a", "a", "b"))
    assert first.settings() == again.settings()
    for name in ("LATHE_DATABASE_URL", "LATHE_NATS_URL", "LATHE_S3_ACCESS_KEY", "LATHE_S3_SECRET_KEY"):
        assert first.settings()[name] != other.settings()[name]
