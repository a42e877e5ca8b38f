"""The processes of the suite on one machine. A new service or worker is one line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceEntry:
    """One API process.

    Attributes:
        name: Its name; LATHE_<NAME>_ADDRESS tells the others its address.
        module: Module that `python -m` runs.
        port: Preferred port.
        kinds: Kinds of task that it serves.
        changes: Kinds of resources, tasks apart, whose changes it publishes.
        storage: What it may do in the object store: a role of `services.storage.rights`; nothing if empty.
    """

    name: str
    module: str
    port: int
    kinds: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    storage: str = "tasks"

    @property
    def address_variable(self) -> str:
        """Environment variable with the address of this service."""
        return f"LATHE_{self.name.upper()}_ADDRESS"


@dataclass(frozen=True)
class WorkerEntry:
    """One worker process.

    Attributes:
        name: Its name.
        module: Module that `python -m` runs.
        kind: Kind of task that it takes.
        runs_forms: Whether its tasks run forms, so that it has to be on the device.
        device: Device that it serves; that of the environment if empty.
    """

    name: str
    module: str
    kind: str
    runs_forms: bool = True
    device: str = ""


SERVICES = (
    ServiceEntry("registry", "services.registry.main", 50051, changes=("dataset", "release"), storage="registry"),
    ServiceEntry("template", "services.template.main", 50052, storage=""),
    ServiceEntry("converter", "services.converter.main", 50053, kinds=("conversion",)),
    ServiceEntry("quantizer", "services.quantizer.main", 50054, kinds=("quantization",)),
    ServiceEntry("optimizer", "services.optimizer.main", 50055, kinds=("optimization", "profile")),
    ServiceEntry("evaluator", "services.evaluator.main", 50056, kinds=("evaluation",)),
)
WORKERS = (
    WorkerEntry("worker-conversion", "services.worker", "conversion", runs_forms=False),
    WorkerEntry("worker-quantization", "services.worker", "quantization", runs_forms=False),
    WorkerEntry("worker-optimization", "services.worker", "optimization"),
    WorkerEntry("worker-profile", "services.worker", "profile"),
    WorkerEntry("worker-evaluation", "services.worker", "evaluation"),
)

POSTGRES_PORT = 55432
NATS_PORT = 54222
S3_PORT = 58333
