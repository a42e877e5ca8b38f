"""Configuration: every `LATHE_*` variable of the environment, with a default that works on one machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_PORTS = {
    "registry": 50051,
    "template": 50052,
    "converter": 50053,
    "quantizer": 50054,
    "optimizer": 50055,
    "evaluator": 50056,
}

_LEAST_AUDIT_DAYS = 30
_LEAST_WEIGHT, _MOST_WEIGHT = 0.01, 100.0
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)@")


class ConfigurationError(Exception):
    """The environment asks for something impossible; the text tells the operator what to change."""


class Settings(BaseSettings):
    """The configuration of one process. Built once, by its main, with `load_settings`."""

    model_config = SettingsConfigDict(env_prefix="LATHE_", hide_input_in_errors=True, extra="ignore")

    database_url: str = "postgresql://postgres@127.0.0.1:55432/lathe"
    nats_url: str = "nats://127.0.0.1:54222"
    # Servers of a cluster that have each message: an odd number, the same for every process.
    nats_replicas: Literal[1, 3, 5] = 1
    s3_endpoint: str = "http://127.0.0.1:58333"
    # The store's address in presigned URLs, if users reach it by another one.
    s3_public_endpoint: str = ""
    # The embedded store listens on loopback only; any other store is given its own keys.
    s3_access_key: str = "lathe"
    s3_secret_key: SecretStr = SecretStr("lathe-embedded")
    s3_bucket: str = "lathe"
    s3_region: str = "us-east-1"

    bind_host: str = "127.0.0.1"
    # 0 is the service's own port of DEFAULT_PORTS.
    port: int = Field(default=0, ge=0, le=65535)
    registry_address: str = "127.0.0.1:50051"
    template_address: str = "127.0.0.1:50052"
    converter_address: str = "127.0.0.1:50053"
    quantizer_address: str = "127.0.0.1:50054"
    optimizer_address: str = "127.0.0.1:50055"
    evaluator_address: str = "127.0.0.1:50056"

    # "open" lets a service listen beyond loopback although it asks nobody for a token.
    auth: Literal["", "open"] = ""
    # Static tokens: see `tokens`.
    auth_tokens_file: Path | None = None
    # An identity provider whose tokens (JWT) are taken: what they say of issuer and audience, and where its keys are (a
    # JWKS: URL or file).
    auth_issuer: str = ""
    auth_audience: str = ""
    auth_jwks: str = ""
    # Their claims with the user's name, and with the list of groups.
    auth_user_claim: str = "sub"
    auth_groups_claim: str = "groups"
    # With this token a service speaks for its callers when it calls another service.
    service_token: SecretStr = SecretStr("")

    # Private key, in PEM, with which the registry signs the provenance of packages; unsigned without one.
    signing_key_file: Path | None = None

    # Users who may also do what is reserved for administrators, separated by commas.
    admins: str = ""
    # Shares of workers, such as "ada=3,nightly=0.5"; everybody else's is 1.
    owner_weights: str = ""

    # The certificate that the service shows, and its key: with them it speaks TLS alone, with clients and siblings.
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    # Authorities that are trusted for siblings and, beside the system's, for NATS, the object store and the keys of the
    # identity provider.
    tls_ca_file: Path | None = None
    # A second port, for siblings alone: they show a certificate of the authority for one of the hosts in the addresses
    # above, which makes a service of them. 0 is none.
    internal_port: int = Field(default=0, ge=0, le=65535)
    # A third port, in the clear, that answers health checks and nothing else. 0 is none.
    probe_port: int = Field(default=0, ge=0, le=65535)

    # What the operators call this build, such as a commit or the tag of an image.
    build: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    # "http://collector:4317"; no spans are exported if empty.
    otlp_endpoint: str = ""
    # Prometheus metrics over HTTP; 0 is off.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    debug: bool = False

    # Of calls that are not streams: what a client that asks for none gets, and the most that it may ask for.
    default_deadline_seconds: float = Field(default=60, gt=0)
    max_deadline_seconds: float = Field(default=3600, gt=0)
    # How long a server waits at its start for the servers that it needs.
    startup_wait_seconds: float = Field(default=60, ge=0)
    # Calls, streams apart, that one process serves at once; more are refused with RESOURCE_EXHAUSTED.
    max_calls: int = Field(default=2000, ge=1)
    # Streams that one process serves at once; more are refused in the same way.
    max_streams: int = Field(default=10_000, ge=1)
    # Calls of one user that one process takes in a second; 0 is any number.
    calls_per_second: float = Field(default=0, ge=0)
    # After this, clients are asked to reconnect, so that they spread over the replicas that exist then.
    connection_age_seconds: float = Field(default=1800, gt=0)
    # After SIGTERM a service says NOT_SERVING, but serves as before for so long that balancers look elsewhere.
    shutdown_pause_seconds: float = Field(default=5, ge=0)
    # How long calls in flight may go on after that.
    drain_seconds: float = Field(default=10, ge=0)

    # What a project may use if it sets no quota of its own; 0 is no limit.
    quota_waiting_tasks: int = Field(default=0, ge=0)
    quota_running_tasks: int = Field(default=0, ge=0)
    quota_open_uploads: int = Field(default=0, ge=0)
    quota_stored_bytes: int = Field(default=0, ge=0)
    quota_calls_per_second: int = Field(default=0, ge=0)

    # Days for which entries of the audit log are kept, at least 30; 0 is for ever.
    audit_retention_days: int = Field(default=365, ge=0)
    # Days after which tasks that have ended are deleted; 0 is never.
    task_retention_days: int = Field(default=0, ge=0)

    data_dir: Path = Path(".lathe")
    # Device of the catalog that a worker serves.
    device: str = "cpu-x86-64"
    # Kinds of task that a worker takes, separated by commas; all that this machine can do if empty.
    kinds: str = ""
    # A worker that had nothing to do for so long ends; 0 is never.
    idle_exit_seconds: float = Field(default=0, ge=0)
    # Most that a worker keeps of what it fetched, for the next task.
    cache_bytes: int = Field(default=10 << 30, ge=0)
    max_attempts: int = Field(default=3, ge=1)
    ack_wait_seconds: float = Field(default=60, gt=0)
    heartbeat_seconds: float = Field(default=20, gt=0)
    # "required": processes that read strangers' files do not start if the kernel cannot confine them.
    sandbox: Literal["", "required"] = ""
    # Stored bytes that nobody refers to are removed after so long: longer than any call, backup or delivery of an event
    # takes. FRESH of services/storage/claims.py has to be less.
    gc_grace_hours: float = Field(default=24, ge=3)
    # How often they are looked for; 0 is never.
    gc_interval_hours: float = Field(default=24, ge=0)
    # How long what was made on another machine than the device waits for a worker on the device to verify it, if none
    # lives when it is made, as in a pool that is scaled from zero.
    verification_wait_seconds: float = Field(default=0, ge=0)

    @property
    def work_dir(self) -> Path:
        """Where work in progress has its folders; empty when nobody works."""
        return self.data_dir / "work"

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The names in LATHE_KINDS, each once."""
        return tuple(dict.fromkeys(name for each in self.kinds.split(",") if (name := each.strip())))

    @property
    def asks_for_tokens(self) -> bool:
        """Whether callers must say who they are by a token."""
        return self.auth_tokens_file is not None or bool(self.auth_issuer or self.auth_audience or self.auth_jwks)

    @property
    def admin_users(self) -> frozenset[str]:
        """The names in LATHE_ADMINS."""
        return frozenset(name for each in self.admins.split(",") if (name := each.strip()))

    @field_validator("nats_replicas", mode="before")
    @classmethod
    def _number_of_text(cls, value: object) -> object:
        # The environment has texts only, and a Literal takes none for a number.
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("audit_retention_days")
    @classmethod
    def _kept_long_enough(cls, value: int) -> int:
        if 0 < value < _LEAST_AUDIT_DAYS:
            raise ValueError(f"entries are kept for {_LEAST_AUDIT_DAYS} days at least; 0 keeps them for ever")
        return value

    @field_validator("owner_weights")
    @classmethod
    def _weights_are_pairs(cls, value: str) -> str:
        _weights(value)
        return value

    @property
    def weights_of_owners(self) -> dict[str, float]:
        """The shares in LATHE_OWNER_WEIGHTS, by user."""
        return _weights(self.owner_weights)

    def address_of(self, service: str) -> str:
        """Return `host:port` of a sibling service, such as "registry"."""
        address: str = getattr(self, f"{service}_address")
        return address

    def listen_address(self, service: str) -> str:
        """Return the `host:port` that the service itself listens on; port 0 if it has none of its own."""
        return self.address_at(self.port or DEFAULT_PORTS.get(service, 0))

    def address_at(self, port: int) -> str:
        """Return the `host:port` of another port that the service listens on."""
        return f"[{self.bind_host}]:{port}" if ":" in self.bind_host else f"{self.bind_host}:{port}"

    @property
    def sibling_hosts(self) -> frozenset[str]:
        """The hosts in the addresses of the services: their certificates are for these."""
        return frozenset(self.address_of(service).rpartition(":")[0].strip("[]") for service in DEFAULT_PORTS)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields for `repr` and `str`, without the passwords in URLs."""
        for name, value in super().__repr_args__():
            yield name, without_passwords(value) if isinstance(value, str) else value


def _weights(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in filter(None, (each.strip() for each in text.split(","))):
        owner, _, number = (part.strip() for part in each.rpartition("="))
        try:
            found[owner] = float(number)
        except ValueError:
            found[owner] = 0.0
        if not owner or not _LEAST_WEIGHT <= found[owner] <= _MOST_WEIGHT:
            raise ValueError(f"'{each}' is not USER=WEIGHT, with a weight from {_LEAST_WEIGHT} to {_MOST_WEIGHT}")
    return found


def without_passwords(text: str) -> str:
    """Return the text with every password in a URL replaced by `***`."""
    return _PASSWORD_IN_URL.sub(r"\1:***@", text)


def load_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigurationError: A variable has a value that is not allowed; the text names each one.
    """
    try:
        return Settings()
    except ValidationError as error:
        # What Lathe's own validators say has the name of Python's exception before it.
        wrong = "; ".join(
            f"LATHE_{str(each['loc'][0]).upper()}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        raise ConfigurationError(f"The environment is not a valid configuration: {wrong}.") from None
