"""What the environment says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.platform.settings import DEFAULT_PORTS, ConfigurationError, Settings, load_settings, without_passwords


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("LATHE_"):
            monkeypatch.delenv(name)


def test_everything_has_a_default() -> None:
    settings = Settings()
    assert settings.bind_host == "127.0.0.1"
    assert settings.database_url.startswith("postgresql://")


def test_every_setting_is_documented() -> None:
    told = (Path(__file__).parents[3] / "services/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"LATHE_[A-Z0-9_]+", told))
    missing = {f"LATHE_{name.upper()}" for name in Settings.model_fields} - named
    assert not missing, "services/README.md has no entry for them"


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_S3_BUCKET", "models")
    monkeypatch.setenv("LATHE_MAX_ATTEMPTS", "7")
    settings = load_settings()
    assert (settings.s3_bucket, settings.max_attempts) == ("models", 7)


def test_no_secret_is_in_its_text() -> None:
    settings = Settings(
        database_url="postgresql://lathe:hunter2@db/lathe",
        nats_url="nats://lathe:hunter3@nats:4222",
        s3_secret_key=SecretStr("hunter4"),
        service_token=SecretStr("hunter5"),
    )
    for text in (repr(settings), str(settings)):
        assert "hunter" not in text
        assert "postgresql://lathe:***@db/lathe" in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("nats://:p@h", "nats://:***@h"),
        ("http://h:9000/x@y", "http://h:9000/x@y"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("no url: a:b@c", "no url: a:b@c"),
        ("two a://b:c@d and e://f:g@h", "two a://b:***@d and e://f:***@h"),
    ],
)
def test_passwords_are_cut_out_of_urls(text: str, clean: str) -> None:
    assert without_passwords(text) == clean


def test_weights_of_owners_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_OWNER_WEIGHTS", "ada=3, nightly=0.5,")
    assert load_settings().weights_of_owners == {"ada": 3.0, "nightly": 0.5}
    for wrong in ("ada", "=3", "ada=no", "ada=0", "ada=nan", "ada=1000"):
        monkeypatch.setenv("LATHE_OWNER_WEIGHTS", f"bob=1,{wrong}")
        with pytest.raises(ConfigurationError, match=f"'{wrong}' is not USER=WEIGHT"):
            load_settings()


def test_a_wrong_variable_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_PORT", "hunter2")
    monkeypatch.setenv("LATHE_LOG_FORMAT", "xml")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "LATHE_PORT" in str(caught.value)
    assert "LATHE_LOG_FORMAT" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("service", DEFAULT_PORTS)
def test_each_service_listens_where_the_others_look_for_it(service: str) -> None:
    assert Settings().listen_address(service) == Settings().address_of(service)


def test_ipv6_hosts_are_put_in_brackets() -> None:
    assert Settings(bind_host="::1", port=7).listen_address("registry") == "[::1]:7"


def test_copies_of_messages_are_a_number_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_NATS_REPLICAS", "3")
    assert load_settings().nats_replicas == 3
    monkeypatch.setenv("LATHE_NATS_REPLICAS", "2")
    with pytest.raises(ConfigurationError, match=r"LATHE_NATS_REPLICAS: .*1, 3 or 5"):
        load_settings()
