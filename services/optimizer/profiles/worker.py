"""A worker for profiles: `LATHE_DEVICE=cpu-x86-64 python -m services.optimizer.profiles.worker`."""

from services.optimizer.profiles.work import ProfileWorkKind
from services.tasks.worker.process import run_worker

if __name__ == "__main__":
    run_worker("worker-profile", ProfileWorkKind)
