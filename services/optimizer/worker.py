"""A worker for optimizations: `LATHE_DEVICE=cpu-x86-64 python -m services.optimizer.worker`."""

from services.common.tasks.worker_process import run_worker
from services.optimizer.work import OptimizationWorkKind

if __name__ == "__main__":
    run_worker("worker-optimization", OptimizationWorkKind)
