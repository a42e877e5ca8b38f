"""A worker for conversions: `LATHE_DEVICE=cpu-x86-64 python -m services.converter.worker`."""

from services.converter.work import ConversionWorkKind
from services.tasks.worker.process import run_worker

if __name__ == "__main__":
    run_worker("worker-conversion", ConversionWorkKind)
