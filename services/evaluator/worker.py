"""A worker for evaluations: `LATHE_DEVICE=cpu-x86-64 python -m services.evaluator.worker`."""

from services.common.tasks.worker_process import run_worker
from services.evaluator.work import EvaluationWorkKind

if __name__ == "__main__":
    run_worker("worker-evaluation", EvaluationWorkKind)
