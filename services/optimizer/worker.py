"""A worker for optimizations: `LATHE_DEVICE=cpu-x86-64 python -m services.optimizer.worker`."""

from services.optimizer.work import OptimizationWorkKind
from services.tasks.worker.process import run_worker

if __name__ == "__main__":
    run_worker("worker-optimization", OptimizationWorkKind)
